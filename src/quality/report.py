"""Results of the checks: metrics, tables for plots, an HTML report, and the gate's message."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from jinja2 import Environment, select_autoescape
from markupsafe import Markup
from PIL import Image

from ..core.geometry import box_to_corners
from ..core.images import ImageError
from ..evaluation import metrics as evaluation
from .base import Check, Finding
from .samples import Samples

SHOWN = 6
"""Maximum number of flagged samples per check whose images are in the report."""
LISTED = 200
"""Maximum number of flagged samples per check in flagged.csv."""
EXPLAINED = 3
"""Maximum number of flagged samples, or of coverage gaps, per check in the gate's message."""
_TEMPLATE = Path(__file__).with_name("report.html")
_RIM = (40, 110, 240)
_EMPTY = {
    "clusters": pd.DataFrame(columns=["cluster", "count", "expected", "lacking"]),
    "reliability": evaluation.reliability(np.empty(0), np.empty(0, bool)),
}
"""Empty tables for the plots that no check provides data for."""


def write_results(folder: Path, title: str, findings: Sequence[Finding]) -> None:
    """Write metrics.json, plots/*.csv, flagged.csv and report.html; they appear all at once.

    Raises:
        StageError: The folder cannot be written.
    """
    with evaluation.results_folder(folder) as temporary:
        # The images are embedded in the page.
        (temporary / "plots" / "images").rmdir()
        evaluation.write_metrics(temporary, metrics(findings))
        for name, table in plot_tables(findings).items():
            evaluation.write_plot(temporary, name, table)
        flagged(findings).to_csv(temporary / "flagged.csv", index=False)
        (temporary / "report.html").write_text(page(title, findings), encoding="utf-8")


def metrics(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the results by set and check, and the numbers of checks that failed or were not made."""
    result: dict[str, Any] = {
        "failed": sum(finding.failed for finding in findings),
        "not_checked": sum(finding.scores is None for finding in findings),
    }
    for finding in findings:
        result.setdefault(finding.set, {})[finding.check.name] = _measures(finding)
    return result


def _measures(finding: Finding) -> dict[str, Any]:
    if finding.scores is None:
        return {"not_checked": finding.warning}
    return {
        "samples": len(finding.samples),
        "of": finding.samples.total,
        "flagged": len(finding.flagged),
        "value": finding.value,
        "limit": finding.check.limit,
        **finding.scores.measures,
    }


def plot_tables(findings: Sequence[Finding]) -> dict[str, pd.DataFrame]:
    """Return the tables for ``dvc plots``: fractions of flagged samples, clusters and reliability."""
    made = [(item, item.scores) for item in findings if item.scores is not None]
    shares = [
        (item.set, item.check.name, len(item.flagged) / max(item.checked, 1))
        for item, scores in made
        if scores.value is None
    ]
    tables = {"flagged": pd.DataFrame(shares, columns=["set", "check", "share"])}
    for name, empty in _EMPTY.items():
        parts = [
            scores.tables[name].assign(set=item.set)
            for item, scores in made
            if name in scores.tables
        ]
        tables[name] = pd.concat(parts) if parts else empty.assign(set=[])
    return tables


def flagged(findings: Sequence[Finding]) -> pd.DataFrame:
    """Return the worst flagged samples of each check, with set, check, sample, score and reason."""
    rows = [
        (
            item.set,
            item.check.name,
            item.samples.where(row),
            round(float(item.scores.each[row]), 4),
            item.scores.why(row),
        )
        for item in findings
        if item.scores is not None
        for row in item.flagged[:LISTED].tolist()
    ]
    return pd.DataFrame(rows, columns=["set", "check", "sample", "score", "why"])


def gate_message(findings: Sequence[Finding], folder: Path) -> str:
    """Return the gate's message; empty if all checks are within their limits.

    The message tells which limits are exceeded, by which samples, why, and how to see them.
    """
    failed = [(item, item.scores) for item in findings if item.failed and item.scores is not None]
    if not failed:
        return ""
    lines = ["data quality checks failed (limits: params.py, QualityParams):"]
    for item, scores in failed:
        lines.append(f"  {item.set}: {item.check.name}: {verdict(item)}")
        rows = item.flagged[:EXPLAINED].tolist()
        worst = [f"{item.samples.where(row)}: {scores.why(row)}" for row in rows]
        lines += [f"    {line}" for line in (scores.explanation[:EXPLAINED] or worst)]
    lines.append(
        f"Worst {LISTED} samples of each check: {folder / 'flagged.csv'}; images: "
        f"{folder / 'report.html'}; other samples: `python -m src.quality SET --show NUMBER`"
    )
    return "\n".join(lines)


def verdict(finding: Finding) -> str:
    """Return what was found and what is allowed, in words."""
    if finding.scores is None:
        return finding.warning
    limit, found = _limit(finding), _short(finding)
    if finding.scores.value is None:
        found = f"{len(finding.flagged)} of {finding.checked} samples, {found}"
    if not finding.scores.judged:
        return f"{found}; too few samples or correct predictions to judge it"
    return f"{found}; maximum {limit}" if limit else found


def _short(finding: Finding) -> str:
    """Return the value that is compared with the limit as text; a dash if there is none."""
    if finding.value is None or finding.scores is None:
        return "–"
    if finding.scores.value is not None or finding.value == 0:
        return f"{finding.value:.3g}"
    return f"{finding.value:.2%}"


def _limit(finding: Finding) -> str:
    """Return the limit as text; empty if there is no limit."""
    limit = finding.check.limit
    if not math.isfinite(limit):
        return ""
    is_share = finding.scores is not None and finding.scores.value is None and limit > 0
    return f"{limit:.2%}" if is_share else f"{limit:g}"


def page(title: str, findings: Sequence[Finding]) -> str:
    """Return the report as an HTML page with all images embedded."""
    environment = Environment(
        autoescape=select_autoescape(default=True), trim_blocks=True, lstrip_blocks=True
    )
    checks: dict[str, Check] = {item.check.name: item.check for item in findings}
    # Findings with scores come last, and so win: only they tell whether the limit is a fraction.
    limits = {item.check.name: _limit(item) for item in sorted(findings, key=_is_made)}
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        title=title,
        findings=findings,
        sets=list(dict.fromkeys(item.set for item in findings)),
        checks=list(checks.values()),
        limits=limits,
        table={(item.set, item.check.name): item for item in findings},
        shown=SHOWN,
        state=_state,
        details=_has_details,
        verdict=verdict,
        short=_short,
        looked_at=lambda item: f"{len(item.samples)} of {item.samples.total} samples checked",
        image=_image,
        flat=_flat,
        number=_number,
    )


def _is_made(finding: Finding) -> bool:
    return finding.scores is not None


def _state(finding: Finding) -> str:
    if finding.scores is None:
        return "skipped"
    return "failed" if finding.failed else "good"


def _has_details(finding: Finding) -> bool:
    scores = finding.scores
    return scores is not None and bool(
        len(finding.flagged) or scores.groups or any(map(len, scores.tables.values()))
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}: ")
        else:
            yield f"{prefix}{name}", _number(value)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _image(samples: Samples, row: int, side: int) -> Markup:
    """Return a sample's image as a data URL for an HTML image.

    The image is a PNG of 16 colours to save space, because a report has hundreds of images.
    """
    try:
        drawn = draw(samples, row, side)
    except ImageError:
        drawn = np.full((side // 2, side, 3), 220, np.uint8)
    page_image, file = Image.fromarray(cv2.cvtColor(drawn, cv2.COLOR_BGR2RGB)), io.BytesIO()
    page_image.quantize(palette=_palette(), dither=Image.Dither.NONE).save(file, "PNG", bits=4)
    content = base64.b64encode(file.getvalue()).decode()
    return Markup(f"data:image/png;base64,{content}")  # noqa: S704  # base64 has no markup


@cache
def _palette() -> Image.Image:
    greys = np.linspace(0, 255, 15).round()[:, None].repeat(3, axis=1)
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.concatenate([greys, [_RIM[::-1]]]).astype(np.uint8).tobytes())
    return palette


def draw(samples: Samples, row: int, side: int) -> np.ndarray:
    """Draw the outline of a sample's label on its image.

    Args:
        samples: Samples to draw from.
        row: Row of the sample.
        side: Longer side of the result in pixels.

    Returns:
        BGR image, shape ``(h, w, 3)``.
    """
    image = samples.image(row)
    scale = side / max(image.shape)
    size = [max(round(length * scale), 1) for length in image.shape[::-1]]
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    shown = cv2.cvtColor(cv2.resize(image, size, interpolation=interpolation), cv2.COLOR_GRAY2BGR)
    points = samples.corners[row]
    if np.isnan(points).any():
        points = box_to_corners(samples.boxes[row])
    if samples.labels["present"].iloc[row] and np.isfinite(points).all():
        outline = np.round((points * size - 0.5) * 16).clip(-(2**20), 2**20).astype(np.int32)
        cv2.polylines(shown, [outline], True, _RIM, 1, cv2.LINE_AA, 4)
    return np.asarray(shown)
