"""Stage evaluate_stack: measure the exported bundle end to end on all sets of data/prepared/stack.

Writes out/evaluations/stack: metrics.json, tables for ``dvc plots``, ten images and sheets of failures.
The metrics of ``val``, scenes like the original's, are at the top level of metrics.json (``val_acc`` is
the fraction of plates read without error). The other sets are nested under their names: ``formats`` (all
formats, colours and lights), ``shifted`` (letters, backgrounds and degradations that training never
sees), ``holdout`` (the held-out test set from a different generator, for final figures only) and
``clutter`` (no Swiss plate anywhere), ``colours`` (all colours of plates, under many lights) and ``tight``
(nothing but a plate); ``occluded`` measures whether a plate that cannot be seen as a whole is given no
text, and one that can be is read. Run it with
``dvc repro evaluate_stack``, or ``python -m src.stack.evaluate``.

``python -m src.stack.evaluate --labels CSV [--model DIR] [--json]`` computes the same metrics on the
images of any annotation file (format in src/datasets/annotations.py), prints them, and writes nothing.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from ..config import Config
from ..config.stage import run_stage
from ..core.geometry import FloatArray
from ..datasets.annotations import AnnotatedImage, AnnotationFile, PreparedAnnotations
from ..datasets.shards import ShardedSet
from ..evaluation import figures as plots
from ..evaluation import metrics as evaluation
from ..evaluation.attributes import format_accuracy, summarise_colours
from ..evaluation.end_to_end import (
    Case,
    Scores,
    case_of,
    confused,
    failures,
    latency,
    precision,
    score,
    summarise,
    summarise_clutter,
    summarise_occluded,
    texts_of,
)
from ..evaluation.paired import FILE, Outcomes, write_outcomes
from ..inference.bundle import MANIFEST, Bundle
from ..inference.reader import PlateReader
from ..inference.runtimes import installed_runtimes

MAIN = "val"
READ = (MAIN, "formats", "shifted", "holdout")
"""Sets with plates to be read."""
CLUTTER = "clutter"
OCCLUDED = {"occluded": "unoccluded", "occluded_holdout": "unoccluded_holdout"}
"""Sets of scenes with something in front of the plate, and those of the same scenes without it."""
TIGHT = "tight"
"""Images that show nothing but a plate."""
HIGH_ROW = 12.0
"""Height of characters in pixels from which on every plate of ``tight`` should be read."""
COLOURS = "colours"
"""Street scenes in colour."""
SETS = (*READ, CLUTTER, *OCCLUDED, *OCCLUDED.values(), TIGHT, COLOURS)
OTHER_RUNTIMES = (MAIN, "formats", "shifted")
"""Sets that are evaluated with every runtime."""
SHEETS = {
    MAIN: "worst_failures",
    "formats": "failures_formats",
    "shifted": "failures_shifted",
    CLUTTER: "failures_clutter",
    "occluded": "failures_occluded",
}
"""Failure sheets by set. There is none for ``holdout``, so that nobody tunes on its failures."""
TIMED = 100
"""Number of images whose latency is measured."""
CURVE = 200
"""Approximate number of points to which a risk-coverage curve is thinned."""


def draw(item: AnnotatedImage, scores: Scores, case: Case) -> Image.Image:
    """Draw a plate in its image, with what the stack found and read."""
    values: Any = None if case.row is None else scores.table.iloc[case.row]
    plate = None if values is None or pd.isna(values.plate) else values.plate
    true = None if values is None else item.plates[values.number].corners
    found = None if case.found is None else scores.found[case.image][case.found]
    outlines = [] if true is None else [plots.Outline(true, plots.TRUE)]
    if found is not None:
        outlines.append(plots.Outline(np.array(found.corners), plots.FOUND))
    image, start = plots.cut_around(item.image, outlines[0].corners)
    outlines = [plots.Outline(outline.corners - start, outline.colour) for outline in outlines]
    read = "not found"
    if found is not None:
        read = f"read: {found.text or 'nothing'}, confidence {found.confidence:.3f}"
    lines = [plots.Line(f"true: {plate or 'no text'}", plots.TRUE), plots.Line(read, plots.FOUND)]
    right = False
    if values is not None:
        kind = f"{values.format}, " if values.format else ""
        lines.append(plots.Line(f"{kind}{values.height:.0f} px high, IoU {values.iou:.2f}"))
        right = bool(values.right)
    if not right:
        fault = "lost by localizer" if plate and values.right_on_truth else "lost by recognizer"
        lines.append(plots.Line(fault if plate else "text where there is none", plots.WRONG))
    return plots.draw_result(image, outlines, lines, right)


def main(config: Config) -> None:
    folder = config.out("models", "stack")
    reader = PlateReader.load(folder)
    annotated_sets = {name: _annotated(config, name) for name in SETS}
    scores = {
        name: score(reader, annotated, name, reads_true_corners=name in (*READ, TIGHT))
        for name, annotated in annotated_sets.items()
    }
    main_scores, main_set = scores[MAIN], annotated_sets[MAIN]
    metrics = {
        **summarise(main_scores, reader.threshold, "val_acc"),
        "format_accuracy": format_accuracy(main_scores),
        **precision(main_scores),
        "latency": latency(reader, [item.image for item in islice(main_set, TIMED)]),
        "backgrounds": main_set.samples.meta.get("backgrounds"),
        **{
            name: {
                **summarise(scores[name], reader.threshold),
                "format_accuracy": format_accuracy(scores[name]),
            }
            for name in READ
            if name != MAIN
        },
        COLOURS: summarise_colours(scores[COLOURS], annotated_sets[COLOURS].samples.labels),
        CLUTTER: summarise_clutter(scores[CLUTTER], reader.threshold),
        **{
            name: summarise_occluded(
                scores[name], scores[whole], annotated_sets[name].samples.labels, reader.threshold
            )
            for name, whole in OCCLUDED.items()
        },
        TIGHT: {
            **summarise(scores[TIGHT], reader.threshold),
            "high_rows": _high_rows(scores[TIGHT], annotated_sets[TIGHT].samples.labels),
        },
        "other_runtimes": _other_runtimes(folder, reader.runtime, annotated_sets),
    }
    with evaluation.results_folder(config.out("evaluations", "stack")) as results:
        evaluation.write_metrics(results, metrics)
        write_outcomes(
            results / FILE,
            {
                name: Outcomes(
                    annotated_sets[name].samples.meta["sha256"],
                    texts_of(scores[name])["right"].to_numpy(bool),
                )
                for name in READ
            },
        )
        _write_plots(results, {name: scores[name] for name in READ})
        # Where plates are hidden, it matters what probability the others' texts get.
        for name in OCCLUDED:
            answers = scores[name].answers
            _write_risks(
                results,
                name,
                answers["confidence"].to_numpy(),
                answers["right"].to_numpy(bool),
            )
        texts = texts_of(main_scores).index.to_numpy()
        picked = texts[evaluation.chosen(len(texts), config.EvaluateStackParams.SEED)]
        cases = [case_of(main_scores, row) for row in picked.tolist()]
        plots.write_images(results, "stack_pred", _cards(main_set, main_scores, cases))
        for name, sheet in SHEETS.items():
            cases = failures(scores[name], reader.threshold, evaluation.SHEET)
            plots.write_sheet(results, _cards(annotated_sets[name], scores[name], cases), sheet)


def _high_rows(scores: Scores, labels: pd.DataFrame) -> dict[str, Any]:
    """Return the share of plates read among those whose characters are at least ``HIGH_ROW`` high."""
    texts = texts_of(scores)
    high = labels["cap"].to_numpy()[texts["image"].to_numpy()] >= HIGH_ROW
    return evaluation.share(int(texts["right"][high].sum()), int(high.sum()))


def _other_runtimes(
    folder: Path, used: str, annotated_sets: dict[str, PreparedAnnotations]
) -> dict[str, dict[str, float | None]]:
    """Measure accuracy by set with each other runtime, as not every machine has the one in use."""
    accuracies: dict[str, dict[str, float | None]] = {}
    for runtime in installed_runtimes(Bundle.load(folder).has_int8):
        if runtime == used:
            continue
        reader = PlateReader.load(folder, runtime)
        accuracies[runtime] = {
            name: _accuracy(reader, annotated_sets[name], f"{name}, {runtime}")
            for name in OTHER_RUNTIMES
        }
    return accuracies


def _accuracy(reader: PlateReader, annotated: PreparedAnnotations, name: str) -> float | None:
    """Return the fraction of plates with a text that are read correctly; None if no plate has one."""
    texts = texts_of(score(reader, annotated, name, reads_true_corners=False))
    return float(texts["right"].mean()) if len(texts) else None


def _annotated(config: Config, name: str) -> PreparedAnnotations:
    return PreparedAnnotations(ShardedSet(config.prepared("stack") / name))


def _cards(annotated: PreparedAnnotations, scores: Scores, cases: list[Case]) -> list[Image.Image]:
    return [draw(annotated[case.image], scores, case) for case in cases]


def _write_plots(folder: Path, sets: dict[str, Scores]) -> None:
    """Write tables for ``dvc plots``, one file per set, so that each set is a line of the plot."""
    confusions = []
    for name, scores in sets.items():
        texts = texts_of(scores)
        heights = texts.assign(height=texts["height"].clip(upper=100))
        measures = {"accuracy": "right", "mean_iou": "iou"}
        curve = evaluation.curve(heights, "height", 5, measures)
        evaluation.write_plot(folder, f"accuracy_by_height_{name}", curve)
        answers = scores.answers[scores.answers["plate"].notna()]
        confidence, right = answers["confidence"].to_numpy(), answers["right"].to_numpy(bool)
        _write_risks(folder, name, confidence, right)
        bins = evaluation.reliability(confidence, right)
        evaluation.write_plot(folder, f"reliability_{name}", bins)
        confusions.append(confused(scores).assign(set=name))
    evaluation.write_plot(folder, "confused", pd.concat(confusions))
    table = texts_of(sets[MAIN])
    angles = evaluation.curve(table, "angle", 10, {"accuracy": "right", "mean_iou": "iou"})
    evaluation.write_plot(folder, "accuracy_by_angle", angles)


def _write_risks(folder: Path, name: str, confidence: FloatArray, right: NDArray[np.bool_]) -> None:
    """Write a thinned risk-coverage curve of readings with their probabilities ``(N,)``."""
    risks = evaluation.risk_coverage(confidence, right)
    thinned = risks.iloc[:: max(1, len(risks) // CURVE)]
    evaluation.write_plot(folder, f"risk_coverage_{name}", thinned)


def measure_labels(path: Path, model: Path | None, as_json: bool, config: Config) -> None:
    """Print the metrics of an annotation file's images.

    Args:
        path: Path of the annotation file.
        model: Folder of the bundle; by default the pipeline's own, or the promoted one if the pipeline
            has not produced any.
        as_json: If True, print one JSON object instead of tables.
        config: Configuration that locates the pipeline's own bundle.
    """
    if model is None:
        own = config.out("models", "stack")
        model = own if (own / MANIFEST).exists() else None
    annotated = AnnotationFile(path)
    reader = PlateReader.load(model)
    scores = score(reader, annotated, path.name)
    metrics = summarise(scores, reader.threshold, "val_acc")
    metrics |= precision(scores)
    metrics["latency"] = latency(reader, [item.image for item in islice(annotated, TIMED)])
    metrics = evaluation.rounded(metrics)
    print(json.dumps(metrics, ensure_ascii=False) if as_json else tabulate(metrics))


def tabulate(metrics: dict[str, Any]) -> str:
    """Format metrics for the terminal: a line for each number, and a table for each breakdown."""
    lines, tables = _lines(metrics, ""), []
    for name, value in metrics.items():
        if name == "notes":
            tables += [f"note: {note}" for note in value]
        elif name.startswith("by_"):
            table = pd.DataFrame.from_dict(value, orient="index").rename_axis(name)
            tables.append("\n" + table.astype({"count": int}).round(4).to_string())
    return "\n".join([*lines, *tables])


def _lines(metrics: dict[str, Any], prefix: str) -> list[str]:
    """Return a line for each number, including nested ones."""
    lines: list[str] = []
    for key, value in metrics.items():
        name = f"{prefix}{key}"
        if key == "notes" or key.startswith("by_"):
            continue
        if isinstance(value, dict):
            lines += _lines(value, f"{name}.")
        else:
            lines.append(f"{name:<40}{'not measured' if value is None else value}")
    return lines


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m src.stack.evaluate",
        description="Measure the stack: as a stage on the prepared sets, or on an annotation file.",
    )
    parser.add_argument("--labels", type=Path, metavar="CSV", help="annotation file to evaluate")
    parser.add_argument(
        "--model",
        type=Path,
        metavar="DIR",
        help="bundle folder (default: out/models/stack, else models)",
    )
    parser.add_argument("--json", action="store_true", help="print metrics as a JSON object")
    options = parser.parse_args(arguments)
    if options.labels is None and (options.json or options.model):
        parser.error("--json and --model require --labels")
    return options


if __name__ == "__main__":
    options = parse()
    if options.labels:
        run_stage(partial(measure_labels, options.labels, options.model, options.json))
    else:
        run_stage(main)
