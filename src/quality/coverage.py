"""Coverage of the declared ranges: how often each value occurs, and bins with too few samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise

import numpy as np
import pandas as pd

from ..config import Config
from ..config.plates import PlateParams
from ..core.charset import CANTONS, MAX_DIGITS
from ..core.intervals import wilson
from ..generators.plate import COLOURS, FORMATS, colour_shares
from .base import Evidence, NotCheckedError, Scores

LEAST_EXPECTED = 20.0
"""Bins with a lower expected count are not judged, because they may be empty by chance."""
PAIRS = (("canton", "lines"), ("canton", "digits"), ("format", "digits"))
"""Pairs of ranges whose joint bins are checked."""
TURNS = (-1.0, -0.5, 0.0, 0.5, 1.0)
"""Edges of the angle bins, normalised to the largest declared rotation."""

Proportions = Mapping[str, float]
"""Declared proportion of each bin of a range; the proportions sum to 1."""


@dataclass(frozen=True)
class Declared:
    """Declared distribution of the scenes of one style.

    Attributes:
        shares: Proportions of the bins of each range, by name of the range.
        turn: Largest rotation of a plate in degrees.
    """

    shares: Mapping[str, Proportions]
    turn: float


def declared(config: Config) -> dict[str, Declared]:
    """Return the distributions that params.py declares, by style of scene."""
    return {
        "scene": Declared(_shares(config.PlateParams, config), config.SceneParams.PLATE_ROTATION),
        "street": Declared(_shares(config.StreetPlateParams, config), config.StreetParams.ROLL),
    }


def _shares(plates: PlateParams, config: Config) -> dict[str, Proportions]:
    formats = _normalised([plate.name for plate in FORMATS], plates.FORMAT_WEIGHTS)
    lines = {plate.name: str(plate.lines) for plate in FORMATS}
    colours = np.array([formats.get(plate.name, 0.0) for plate in FORMATS]) @ colour_shares(
        plates.COLOUR_WEIGHTS
    )
    by_lines: dict[str, float] = {}
    for name, share in formats.items():
        by_lines[lines[name]] = by_lines.get(lines[name], 0.0) + share
    return {
        "canton": _normalised(CANTONS, [1.0] * len(CANTONS)),
        "digits": _normalised([str(n + 1) for n in range(MAX_DIGITS)], plates.DIGIT_WEIGHTS),
        "digit": _digit_shares(plates.DIGIT_WEIGHTS),
        "format": formats,
        "lines": by_lines,
        "colour": {
            colour.name: share
            for colour, share in zip(COLOURS, colours.tolist(), strict=True)
            if share
        },
        # No distribution is declared between the edges, so a uniform one is the ideal.
        "height": _even(config.QualityParams.HEIGHTS),
        "light": _even(config.QualityParams.LIGHTS),
        "angle": _even(TURNS),
    }


def _digit_shares(weights: Sequence[float]) -> Proportions:
    """Return the proportion of each digit from 0 to 9 among all digits.

    All numbers with the same count of digits are equally likely, and none begins with 0.
    """
    names = [str(digit) for digit in range(10)]
    others = sum(weight * count for count, weight in enumerate(weights))
    return _normalised(names, [(name != "0") * sum(weights) / 9 + others / 10 for name in names])


def _normalised(names: Sequence[str], weights: Sequence[float]) -> Proportions:
    total = sum(weights)
    return {name: weight / total for name, weight in zip(names, weights, strict=True) if weight > 0}


def _even(edges: Sequence[float]) -> Proportions:
    names = _names(edges)
    return dict.fromkeys(names, 1 / len(names))


def _names(edges: Sequence[float]) -> list[str]:
    return [f"{low:g} to {high:g}" for low, high in pairwise(edges)]


def coverage(evidence: Evidence) -> Scores:
    """Count the coverage gaps of a set.

    A gap is a bin that holds less than a given fraction of the count expected from the declared
    distribution; the number of gaps is compared with the limit. No sample is flagged, because the
    samples at fault are the missing ones.
    """
    params, styles = evidence.params, declared(evidence.config)
    frame = _values(evidence, styles)
    light = pd.DataFrame(
        {
            "style": evidence.samples.labels["style"],
            "light": _binned(evidence.images["brightness"], params.LIGHTS),
        }
    )
    texts = evidence.whole.labels["plate"].str[2:].map(list)
    digit = frame[["style"]].assign(digit=texts).explode("digit")
    single = [_bins(frame, (str(name),), styles) for name in frame if name != "style"]
    single += [_bins(digit, ("digit",), styles), _bins(light, ("light",), styles)]
    table = pd.concat([*single, *(_bins(frame, pair, styles) for pair in PAIRS)])
    judged = table["expected"] >= LEAST_EXPECTED
    if not judged.any():
        raise NotCheckedError("the set is too small, or nothing is declared for its style")
    gaps = table[judged & (table["most"] < params.LEAST_SHARE * table["expected"])]
    return Scores(
        np.zeros(len(evidence.whole)),
        value=float(len(gaps)),
        measures={
            "cells": int(judged.sum()),
            "balance": {
                part["range"].iloc[0]: balance(part["count"]) for part in single if len(part)
            },
        },
        tables={"holes": gaps, "coverage": pd.concat(single)},
        explanation=[
            f"{row.range} {row.cell}: {row.found} samples, {row.expected:.0f} expected"
            for row in gaps.rename(columns={"count": "found"}).itertuples()
        ],
    )


def _values(evidence: Evidence, styles: Mapping[str, Declared]) -> pd.DataFrame:
    """Return the style and the bin of each range (missing where unknown), one row per sample."""
    labels, params = evidence.whole.labels, evidence.params
    text = labels["plate"] != ""
    swiss = labels["format"].isin([plate.name for plate in FORMATS]) & labels["present"]
    turns = labels["style"].map({name: style.turn for name, style in styles.items()})
    return pd.DataFrame(
        {
            "style": labels["style"],
            "canton": labels["plate"].str[:2].where(text),
            "digits": (labels["plate"].str.len() - 2).astype(str).where(text),
            "format": labels["format"].where(swiss),
            "lines": labels["lines"].astype(str).where(swiss),
            "colour": labels["colour"].where(swiss),
            "height": _binned(labels["plate_height"].where(swiss), params.HEIGHTS),
            "angle": _binned(labels["angle"].where(swiss) / turns, TURNS),
        }
    )


def _bins(
    frame: pd.DataFrame, names: tuple[str, ...], styles: Mapping[str, Declared]
) -> pd.DataFrame:
    """Return the counts of the declared bins, one row per bin.

    Columns: the range, the bin (``cell``), the count, the upper 95 % confidence limit of the count
    (``most``), and the expected count.
    """
    known = frame[["style", *names]].dropna().astype(str)
    expected = [pd.Series(dtype=float)]
    for style, count in known["style"].value_counts().items():
        if style in styles:
            cells = reduce(_product, [styles[str(style)].shares[name] for name in names])
            expected.append(pd.Series(cells, dtype=float) * count)
    wanted = pd.concat(expected).groupby(level=0).sum()
    found = reduce(lambda first, second: first + " " + second, (known[name] for name in names))
    counts = found.value_counts().reindex(wanted.index).fillna(0).astype(int)
    total = round(wanted.sum())
    return pd.DataFrame(
        {
            "range": " and ".join(names),
            "cell": wanted.index,
            "count": counts.to_numpy(),
            "most": [wilson(min(count, total), total)[1] * total for count in counts],
            "expected": wanted.to_numpy(),
        }
    )


def _product(first: Proportions, second: Proportions) -> Proportions:
    return {f"{a} {b}": p * q for a, p in first.items() for b, q in second.items()}


def _binned(values: pd.Series, edges: Sequence[float]) -> pd.Series:
    """Return the name of the bin that each value falls into; missing outside of the edges."""
    return pd.cut(values, list(edges), right=False, labels=_names(edges)).astype(object)


def balance(counts: pd.Series) -> float:
    """Return the entropy of counts relative to its maximum: 1 if all counts are equal."""
    shares = counts[counts > 0] / max(counts.sum(), 1)
    if len(counts) < 2:
        return 1.0
    return float(-(shares * np.log(shares)).sum() / np.log(len(counts)))
