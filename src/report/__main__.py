"""Report what a pull request changes: ``python -m src.report [--base main] [--out report/]``.

This writes report.md and the PNG files it links, which compare the workspace with a base revision:
parameters, metrics, curves, images, data, size and latency. Anything missing from either revision is
reported as missing and is not an error.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import vl_convert
from PIL import Image, ImageDraw, ImageFont

from ..core.errors import UserError
from ..core.files import complete_folder
from ..core.program import program
from ..core.provenance import machine
from ..evaluation.paired import SIGNIFICANT, compare_outcomes
from .metric_names import direction
from .revisions import (
    Plots,
    Revision,
    RevisionError,
    is_shallow,
    read_plots,
    read_revision,
    resolve,
)

REPORT = "report.md"
STACK = "evaluations/stack/metrics.json"
MAIN = "val_acc"
MAIN_SET = "val"
"""Name of the set that the main metric is measured on."""
HEADLINES = (
    (STACK, MAIN, "plates read, scenes like the original's"),
    (STACK, "formats.accuracy", "plates read, all formats"),
    (STACK, "shifted.accuracy", "plates read, shifted set"),
    (STACK, "clutter.with_text.share", "images without a Swiss plate in which a text is read"),
    (STACK, "shifted.uncertainty.ece", "expected calibration error, shifted set"),
    ("evaluations/localize/metrics.json", "mean_iou", "mean IoU of the localizer"),
    ("evaluations/ocr/metrics.json", "accuracy", "texts read at the annotated corners"),
    (STACK, "latency.median_ms", "latency per scene in ms"),
)
"""File, name and description of each metric at the top of the report."""
CURVES = ("train/loss.tsv", "val/loss.tsv", "val/iou.tsv", "val/exact_match.tsv")
RESULTS = ("stack_accuracy_by_height", "stack_reliability", "stack_risk_coverage")
DATA = ("formats", "digits", "sizes", "angles")
STAGES = ("localize", "ocr", "stack")
PICTURES = 4
"""Number of images shown for each stage."""
MOST_METRICS = 200
"""Maximum number of metrics listed, as a GitHub comment has at most 65,536 characters."""
PACKAGES = ("torch", "lightning", "onnxruntime", "numpy", "opencv-python-headless", "dvc")
# Distinct for colour-blind people too (Okabe and Ito, 2008).
_COLOURS = {"base": "#0072B2", "head": "#E69F00"}
_BETTER, _WORSE, _SAME = "▲ better", "▼ worse", "= same"
_WIDTH = 240
_CAPTION = 22


def write_report(base: str, out: Path) -> str:
    """Write the report of the workspace.

    Args:
        base: Revision to compare with; if Git does not know it, the report says so.
        out: Folder that is replaced by the report.

    Returns:
        The verdict in one line.

    Raises:
        RevisionError: There is no Git repository here, it is too shallow, or DVC fails.
        StageError: The folder cannot be written.
    """
    check_folder(out)
    head = read_revision()
    old = _base(base)
    with complete_folder(out) as folder, tempfile.TemporaryDirectory() as temporary:
        plots = read_plots(old.commit if old else None, Path(temporary))
        verdict = judge(old, head)
        parts = [
            f"# {verdict}",
            _introduction(base, old, head),
            _headlines(old, head),
            _paired(old, head),
            _parameters(old, head),
            _curves(plots, folder, old),
            _predictions(plots, folder, old),
            _failures(plots, folder),
            _results(plots, folder, old),
            _data(old, head, plots, folder),
            _models(old, head),
            _all_metrics(old, head),
            _missing(plots),
            _environment(),
        ]
        text = "\n\n".join(part for part in parts if part) + "\n"
        (folder / REPORT).write_text(text, encoding="utf-8")
        check_links(folder / REPORT)
    return verdict


def _base(name: str) -> Revision | None:
    """Return the revision to compare with, or None if Git does not know it.

    Raises:
        RevisionError: Git does not know it because the clone is shallow, or DVC fails.
    """
    if resolve(name):
        return read_revision(name)
    if is_shallow():
        branch = name.removesuffix("...").removeprefix("origin/")
        raise RevisionError(
            f"this clone is shallow (`git clone --depth`), so it lacks the revision {name!r} or its history. "
            f"Run `git fetch --unshallow`, and if {branch} is another branch, also "
            f"`git fetch origin {branch}:{branch}`; then name {branch} as the base"
        )
    return None


def check_folder(out: Path) -> None:
    """Check that a folder to be replaced is empty or holds a report.

    Raises:
        RevisionError: The folder holds something else.
    """
    if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or (out / REPORT).exists())):
        raise RevisionError(f"{out}: contains something other than a report; choose another --out")


def check_links(report: Path) -> None:
    """Check that every image linked in a report exists.

    Raises:
        RevisionError: A linked image is missing.
    """
    for link in re.findall(r"!\[[^]]*\]\(([^)]+)\)", report.read_text(encoding="utf-8")):
        if not (report.parent / link).is_file():
            raise RevisionError(f"{report}: links to {link}, which does not exist")


def judge(base: Revision | None, head: Revision) -> str:
    """Return the verdict (better, worse or same) of the gate's paired test on the main set."""
    new, old = _metric(head, STACK, MAIN), _metric(base, STACK, MAIN)
    if new is None or old is None or base is None:
        lack = f"the workspace has no {MAIN}"
        if new is not None:
            lack = f"{MAIN} is {new:.4f}, but there is nothing to compare it with"
        return f"No verdict: {lack}"
    change = f"{MAIN} {old:.4f} → {new:.4f}"
    compared = compare_outcomes(base.outcomes, head.outcomes).get(MAIN_SET)
    if compared is None:
        return f"Not paired: {change}"
    if not compared.gained + compared.lost:
        return f"Same: {change}"
    counts = f"{compared.gained} plates gained, {compared.lost} lost"
    if compared.is_better:
        return f"Better: {change} ({counts}, p = {compared.p_better:.1g})"
    if compared.is_worse:
        return f"Worse: {change} ({counts}, p = {compared.p_worse:.1g})"
    return f"Same within chance: {change} ({counts})"


def _paired(base: Revision | None, head: Revision) -> str:
    """Return a table of the sets on which both revisions have read the same plates."""
    rows = [
        (
            each.name, str(each.count), f"{each.old / each.count:.4f}", f"{each.new / each.count:.4f}",
            str(each.gained), str(each.lost),
            _BETTER if each.is_better else _WORSE if each.is_worse else _SAME,
        )
        for each in compare_outcomes(base.outcomes if base else {}, head.outcomes).values()
        if each.count
    ]  # fmt: skip
    if not rows:
        return ""
    header = ("set", "plates", "base", "head", "gained", "lost", f"p < {SIGNIFICANT}")
    return "## Paired comparison\n\n" + _table(header, rows)


def _metric(revision: Revision | None, file: str, name: str) -> float | None:
    """Return a metric by the end of its file's path, as the path's start depends on a parameter."""
    if revision is None:
        return None
    for path, values in revision.metrics.items():
        value = values.get(name)
        if path.endswith(file) and isinstance(value, int | float):
            return float(value)
    return None


def _introduction(name: str, base: Revision | None, head: Revision) -> str:
    here = f"the workspace at `{_short(head)}`"
    if base is None:
        return f"No base: Git does not know the revision `{name}`. Only {here} is shown."
    text = f"Base: `{name}` (`{_short(base)}`). Head: {here}."
    if not base.metrics:
        text += " The base has no metrics: it predates the pipeline, or the pipeline was not run."
    return text


def _short(revision: Revision) -> str:
    return revision.commit[:8] if revision.commit else "no commit yet"


def _headlines(base: Revision | None, head: Revision) -> str:
    rows = []
    for file, name, words in HEADLINES:
        old, new = _metric(base, file, name), _metric(head, file, name)
        if old is not None or new is not None:
            rows.append((words, _number(old), _number(new), mark(name, old, new)))
    return _table(("metric", "base", "head", ""), rows) if rows else "There are no metrics."


def mark(name: str, old: Any, new: Any) -> str:
    """Return a symbol and a word for the change of a metric, such as ``▲ better``."""
    if old is None or new is None:
        return "new" if old is None else "gone"
    if old == new:
        return _SAME
    better = direction(name)
    if not better or isinstance(old, str) or isinstance(new, str):
        return "changed"
    return _BETTER if (new > old) == (better > 0) else _WORSE


def _parameters(base: Revision | None, head: Revision) -> str:
    if base is None:
        return ""
    rows = [
        (f"`{name}`", _value(base.parameters.get(name)), _value(head.parameters.get(name)))
        for name in sorted(base.parameters.keys() | head.parameters.keys())
        if base.parameters.get(name) != head.parameters.get(name)
    ]
    if not rows:
        return "No parameters changed."
    return "## Parameters\n\n" + _table(("parameter", "base", "head"), rows)


def _value(value: Any) -> str:
    return "–" if value is None else f"`{value}`"


def _curves(plots: Plots, folder: Path, base: Revision | None) -> str:
    names = [
        name for name in plots.charts if "/runs/" in name and name.endswith(CURVES)
    ]  # in the order of dvc.yaml
    links = [_chart(plots.charts[name], folder, base, " ".join(_words(name))) for name in names]
    return "## Curves\n\n" + " ".join(links) if links else "There are no training curves."


def _words(path: str) -> Iterable[str]:
    """Return stage, split and metric of a path ``out/runs/STAGE/plots/metrics/SPLIT/METRIC.tsv``."""
    parts = Path(path).parts
    return (parts[-5], parts[-2], Path(path).stem.replace("_", " "))


def _chart(spec: dict[str, Any], folder: Path, base: Revision | None, title: str) -> str:
    """Render a chart to a PNG file and return a Markdown link to it."""
    spec = {**spec, "title": title, "width": 320, "height": 220}
    revisions = sorted({row.get("rev") for row in spec["data"].get("values", [])} - {None})
    commit = base.commit if base else None
    names = {rev: f"base {rev[:8]}" if rev == commit else "head" for rev in revisions}
    spec["data"] = {
        "values": [
            {**row, "rev": names.get(row.get("rev"), row.get("rev"))}
            for row in spec["data"].get("values", [])
        ]
    }
    shown = list(names.values())
    if "color" in spec.get("encoding", {}):
        spec["encoding"] = {
            **spec["encoding"],
            "color": {
                **spec["encoding"]["color"],
                "scale": {
                    "domain": shown,
                    "range": [_COLOURS["head" if name == "head" else "base"] for name in shown],
                },
            },
        }
    file = re.sub(r"\W+", "_", title) + ".png"
    (folder / file).write_bytes(vl_convert.vegalite_to_png(spec, scale=1.5))
    return f"![{title}]({file})"


def _predictions(plots: Plots, folder: Path, base: Revision | None) -> str:
    parts = []
    for stage in STAGES:
        paths = [
            path
            for path in plots.images
            if re.search(rf"/evaluations/{stage}/plots/images/(stack_)?pred_\d+\.png$", path)
        ][:PICTURES]
        if not paths:
            parts.append(f"{stage}: there are no images.")
            continue
        file = f"predictions_{stage}.png"
        side_by_side(paths, plots.images, base.commit if base else None).save(folder / file)
        parts.append(f"![Predictions of {stage}]({file})")
    return "## Predictions on the same images\n\n" + "\n\n".join(parts)


def side_by_side(
    paths: Sequence[str], images: dict[str, dict[str, Path]], commit: str | None
) -> Image.Image:
    """Arrange the images of both revisions, base above head; absent ones are marked "missing"."""
    rows = [("base", commit)] if commit else []
    rows.append(("head", "workspace"))
    sheet = Image.new("RGB", (_WIDTH * len(paths), (_WIDTH + _CAPTION) * len(rows)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for row, (name, revision) in enumerate(rows):
        for column, path in enumerate(paths):
            x, y = column * _WIDTH, row * (_WIDTH + _CAPTION)
            draw.text((x + 4, y + 2), f"{name}: {Path(path).stem}", "black", font)
            file = images[path].get(str(revision))
            if file is None:
                draw.text((x + 4, y + _CAPTION + 4), "missing", "black", font)
                continue
            with Image.open(file) as image:
                small = image.convert("RGB")
            small.thumbnail((_WIDTH - 4, _WIDTH - 4))
            sheet.paste(small, (x, y + _CAPTION))
    return sheet


def _failures(plots: Plots, folder: Path) -> str:
    parts = []
    for path, files in plots.images.items():
        name = Path(path).stem
        if "/evaluations/stack/" in path and "failures" in name and "workspace" in files:
            with Image.open(files["workspace"]) as image:
                image.convert("RGB").save(folder / f"{name}.png")
            parts.append(f"**{name.replace('_', ' ').capitalize()}**\n\n![{name}]({name}.png)")
    return _folded("Worst failures of the head", "\n\n".join(parts))


def _results(plots: Plots, folder: Path, base: Revision | None) -> str:
    links = [
        _chart(plots.charts[name], folder, base, _title(plots.charts[name], name))
        for name in RESULTS
        if name in plots.charts
    ]
    return _folded("Accuracy by height, and confidence (all revisions and sets)", " ".join(links))


def _title(spec: dict[str, Any], name: str) -> str:
    title = spec.get("title", name)
    return str(title.get("text", name) if isinstance(title, dict) else title)


def _data(base: Revision | None, head: Revision, plots: Plots, folder: Path) -> str:
    parts = []
    rows = [
        (f"{Path(path).parts[-2]}: `{name}`", _number(_value_in(base, path, name)), _number(value))
        for path, values in head.metrics.items()
        if "/prepared/" in path
        for name, value in values.items()
        if not name.startswith("cantons")
    ]
    if rows:
        parts.append(_table(("prepared set", "base", "head"), rows))
    names = [f"prepared_{kind}" for kind in DATA]
    charts = [
        _chart(plots.charts[name], folder, base, name.replace("_", " "))
        for name in names
        if name in plots.charts
    ]
    if charts:
        parts.append(" ".join(charts))
    return _folded("Data", "\n\n".join(parts))


def _value_in(revision: Revision | None, path: str, name: str) -> Any:
    return revision.metrics.get(path, {}).get(name) if revision else None


def _models(base: Revision | None, head: Revision) -> str:
    paths = [path for path in head.sizes if "/models/" in path]
    rows: list[tuple[str, str, str]] = [
        (f"`{path}`, MB", _megabytes(base, path), _megabytes(head, path)) for path in paths
    ]
    for name in ("latency.median_ms", "latency.p95_ms", "latency.images_per_second"):
        old, new = _metric(base, STACK, name), _metric(head, STACK, name)
        if new is not None:
            rows.append((f"`{name}`", _number(old), _number(new)))
    if not rows:
        return _folded("Size and latency", "dvc.lock lists no models.")
    note = "Each latency was measured on the machine that ran the revision."
    return _folded("Size and latency", _table(("", "base", "head"), rows) + f"\n\n{note}")


def _megabytes(revision: Revision | None, path: str) -> str:
    size = revision.sizes.get(path) if revision else None
    return "–" if size is None else f"{size / 1e6:.2f}"


def _all_metrics(base: Revision | None, head: Revision) -> str:
    """List the metrics that differ, except breakdowns (such as by height), which are shown as plots."""
    old = base.metrics if base else {}
    rows = []
    for path in sorted(old.keys() | head.metrics.keys()):
        before, after = old.get(path, {}), head.metrics.get(path, {})
        for name in [*after, *(name for name in before if name not in after)]:
            first, second = before.get(name), after.get(name)
            if first != second and not re.search(r"(^|\.)(by_\w+|cantons|notes)(\.|$)", name):
                words = (f"{path}: `{name}`", _number(first), _number(second))
                rows.append((*words, mark(name, first, second)))
    if not rows:
        return "No metrics changed."
    left_out = ""
    if len(rows) > MOST_METRICS:
        left_out = f"\n\n{len(rows) - MOST_METRICS} more; run `dvc metrics diff` to see them."
    table = _table(("", "base", "head", ""), rows[:MOST_METRICS])
    return _folded(f"All {len(rows)} metrics that differ", table + left_out)


def _missing(plots: Plots) -> str:
    return _folded(
        "Plots missing from a revision", "\n".join(f"- {line}" for line in plots.missing)
    )


def _environment() -> str:
    rows = [("machine", machine()), ("Python", sys.version.split()[0])]
    rows += [(name, version(name)) for name in PACKAGES]
    return _folded("Environment of this report", _table(("", ""), rows))


def _number(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _folded(title: str, content: str) -> str:
    if not content:
        return ""
    return f"<details><summary>{title}</summary>\n\n{content}\n\n</details>"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=program("report"),
        description="Report what the workspace changes since a base revision.",
    )
    parser.add_argument("--base", default="main", metavar="REV", help="revision to compare with")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("report"),
        metavar="DIR",
        help="output folder, which is replaced",
    )
    return parser.parse_args(arguments)


def command(arguments: list[str] | None = None) -> int:
    """Write the report and return the exit status."""
    options = parse(arguments)
    try:
        print(write_report(options.base, options.out))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"Wrote {options.out / REPORT}.")
    return 0


if __name__ == "__main__":
    sys.exit(command())
