"""Stage evaluate_stack: measure localizer and reader together, end to end.

Writes out/evaluations/stack: metrics.json (``val_acc`` is the share of plates read without error),
tables for ``dvc plots``, ten pictures and a sheet of the worst failures. Run it with
``dvc repro evaluate_stack``, or ``python -m src.stack.evaluate``.

``python -m src.stack.evaluate --labels CSV [--json]`` measures the same on the pictures of any
truth file (src/datasets/truth.py says what it holds), prints it, and writes nothing.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from src.config import Config
from src.datasets.shards import ShardedSet
from src.datasets.truth import PreparedTruth, TruePicture, TruthFile
from src.stack.pipeline import Stack
from src.stack.scoring import Scores, latency, score, summarise
from src.utils import evaluation, plots
from src.utils.stage import run_stage

TIMED = 100
"""Pictures whose latency is measured."""


def draw(item: TruePicture, scores: Scores, row: int) -> Image.Image:
    """A picture of one plate, which is a row of the table, and what the stack made of it."""
    values = scores.table.iloc[row]
    result = scores.results[values.picture]
    plate = item.plates[0]
    true = [] if plate.corners is None else [plots.Outline(plate.corners, plots.TRUE)]
    fault = "localizer" if values.right_on_truth else "reader"
    return plots.draw_result(
        item.picture,
        [*true, plots.Outline(result.corners, plots.FOUND)],
        [
            plots.Line(f"true: {values.plate}", plots.TRUE),
            plots.Line(f"read: {values.text}, confidence {values.confidence:.3f}", plots.FOUND),
            plots.Line(f"IoU {values.iou:.3f}" + ("" if values.right else f", lost by {fault}")),
        ],
        right=bool(values.right),
    )


def main(config: Config) -> None:
    samples = ShardedSet(config.prepared("stack") / "val")
    truth = PreparedTruth(samples)
    stack = Stack.of(config)
    scores = score(stack, truth)
    table = scores.table
    metrics = {
        **summarise(scores),
        "latency": latency(stack, [item.picture for item in islice(truth, TIMED)]),
        "backgrounds": samples.meta.get("backgrounds"),
    }
    picked = evaluation.chosen(len(table), config.EvaluateStackParams.SEED)
    failures = evaluation.worst(table, ~table["right"], "confidence", ascending=False)
    with evaluation.results_folder(config.out("evaluations", "stack")) as folder:
        evaluation.write_metrics(folder, metrics)
        for column, step in (("height", 5), ("angle", 10)):
            rows = evaluation.curve(table, column, step, {"accuracy": "right", "mean_iou": "iou"})
            evaluation.write_plot(folder, f"accuracy_by_{column}", rows)
        plots.write_pictures(folder, "stack_pred", [draw(truth[i], scores, i) for i in picked])
        plots.write_sheet(folder, [draw(truth[i], scores, i) for i in failures])


def measure_labels(path: Path, as_json: bool, config: Config) -> None:
    """Print the metrics of a truth file's pictures."""
    truth = TruthFile(path)
    stack = Stack.of(config)
    metrics = summarise(score(stack, truth))
    metrics["latency"] = latency(stack, [item.picture for item in islice(truth, TIMED)])
    metrics = evaluation.rounded(metrics)
    print(json.dumps(metrics, ensure_ascii=False) if as_json else tabulate(metrics))


def tabulate(metrics: dict[str, Any]) -> str:
    """Metrics for people: a line a number, and a table for what is broken down."""
    lines, tables = [], []
    for name, value in metrics.items():
        if name == "notes":
            tables += [f"note: {note}" for note in value]
        elif name.startswith("by_"):
            table = pd.DataFrame.from_dict(value, orient="index").rename_axis(name)
            tables.append("\n" + table.astype({"count": int}).round(4).to_string())
        elif isinstance(value, dict):
            lines += [f"{f'{name}.{key}':<28}{_shown(item)}" for key, item in value.items()]
        else:
            lines.append(f"{name:<28}{_shown(value)}")
    return "\n".join([*lines, *tables])


def _shown(value: Any) -> str:
    return "not measured" if value is None else str(value)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m src.stack.evaluate",
        description="Measure the stack: as a stage on the prepared set, or on a truth file.",
    )
    parser.add_argument("--labels", type=Path, metavar="CSV", help="print the metrics of this file")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    if options.json and options.labels is None:
        parser.error("--json goes with --labels")
    return options


if __name__ == "__main__":
    options = parse()
    run_stage(partial(measure_labels, options.labels, options.json) if options.labels else main)
