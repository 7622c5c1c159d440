"""Model card of a bundle (Mitchell et al., 2019), written as README.md next to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..inference.bundle import Manifest

CARD = "README.md"
SETS = {
    "val": "scenes like the original project's",
    "formats": "street scenes of all formats and colours",
    "shifted": "letters, backgrounds and degradations that training never sees",
    "locked": "scenes of another make",
}
_SLICES = {
    "by_height": "height in pixels",
    "by_angle": "angle in degrees",
    "by_format": "format",
    "by_lines": "lines",
    "by_colour": "colour",
    "by_digits": "digits",
    "by_canton": "canton",
}
_TEXT = """\
# The promoted reader of Swiss number plates

{version}. Made from commit `{revision}` on {created}; `manifest.json` has the sha256 of every file.

## Intended use

Reading the text of Swiss number plates, one-line and two-line, of cars and motorcycles, in photographs:
`python -m src.read`, `python -m src.serve`, or `PlateReader` in code. It is not meant for decisions about
people without a person who looks at the image, and keeping plates of others may need a legal ground.

## Networks

| | name | parameters |
|---|---|---|
| localizer | {localizer} | {localizer_parameters:,} |
| reader | {reader} | {reader_parameters:,} |

## Data

Both are trained on drawn plates alone, over backgrounds of CIFAR-10; they have seen no photograph of a
plate. The sets below are drawn too, and none of their samples is in training. `locked` is made by other
code than the rest, and is looked at for final figures only.

## Measured

A plate counts only if its whole text is right, whatever its probability; 95 % intervals are Wilson's.

{sets}

Texts where no Swiss plate is: {clutter}. A text is given from a probability of {threshold:.3g}.

{slices}

## Limits

- Plates below 15 pixels of height, and strong blur or glare, lose one digit most often: 8, 6, 5 and 3 are
  taken for each other. The probability falls with them.
- Army, diplomatic and provisional plates: a box, or a text without their additions.
- Foreign plates get a box and no text; one that has a canton's letters, a gap and a number looks like a
  Swiss one.
- What the drawn plates do not show, it has not learnt. Measure it on images of your own before you rely
  on it: `python -m src.stack.evaluate --labels CSV`.
"""


def card(manifest: Manifest, metrics: Mapping[str, Any], version: str) -> str:
    """Return the text of the model card.

    Args:
        manifest: Manifest of the bundle.
        metrics: Metrics of ``evaluate_stack``, including its breakdowns.
        version: Name of the bundle.
    """
    sets = {name: metrics if name == "val" else metrics.get(name) for name in SETS}
    measured = {name: values for name, values in sets.items() if values}
    return _TEXT.format(
        version=version,
        revision=manifest.git_revision or "unknown",
        created=manifest.created[:10],
        localizer=manifest.localizer.name,
        localizer_parameters=manifest.localizer.parameters,
        reader=manifest.reader.name,
        reader_parameters=manifest.reader.parameters,
        sets=_sets(measured),
        clutter=_clutter(metrics),
        threshold=manifest.threshold,
        slices="\n\n".join(
            _slice(values, key, f"{SETS[name]}, by {words}")
            for name, values in measured.items()
            for key, words in _SLICES.items()
            if values.get(key)
        ),
    )


def _sets(measured: Mapping[str, Mapping[str, Any]]) -> str:
    lines = ["| set | plates | read | 95 % |", "|---|---|---|---|"]
    for name, values in measured.items():
        key = "val_acc" if name == "val" else "accuracy"
        if values.get(key) is None:
            continue
        interval = values[f"{key}_95"]
        lines.append(
            f"| `{name}`: {SETS[name]} | {values.get('count_with_text', '')} | {values[key]:.4f} | "
            f"{interval['low']:.4f} to {interval['high']:.4f} |"
        )
    return "\n".join(lines)


def _clutter(metrics: Mapping[str, Any]) -> str:
    found = metrics.get("clutter", {}).get("with_text")
    if not isinstance(found, Mapping) or found.get("share") is None:
        return "not measured"
    return f"in {found['share']:.2%} of {found['count']} images of clutter and foreign plates"


def _slice(values: Mapping[str, Any], key: str, title: str) -> str:
    lines = [f"**{title.capitalize()}**", "", "| | plates | read |", "|---|---|---|"]
    for name, row in values[key].items():
        accuracy = row.get("accuracy")
        lines.append(
            f"| {name} | {row['count']} | {'–' if accuracy is None else f'{accuracy:.4f}'} |"
        )
    return "\n".join(lines)
