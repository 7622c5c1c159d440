"""How often each value occurs, and cells of the declared ranges with too few samples."""

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
from ..generators.plate import COLOURS, FORMATS
from .base import Evidence, NotCheckedError, Scores

LEAST_EXPECTED = 20.0
"""Cells in which fewer samples are expected are not judged: none may be there by chance."""
PAIRS = (("canton", "lines"), ("canton", "digits"), ("format", "digits"))
"""Ranges whose cells are looked at together."""
TURNS = (-1.0, -0.5, 0.0, 0.5, 1.0)
"""Edges of the cells of angles, as shares of the largest turn that is declared."""

Shares = Mapping[str, float]
"""Of a range's cells, as they are declared; together 1."""


@dataclass(frozen=True)
class Declared:
    """What the scenes of one style are declared to hold.

    Attributes:
        shares: of each range's cells, by the range's name.
        turn: of plates in degrees, at most.
    """

    shares: Mapping[str, Shares]
    turn: float


def declared(config: Config) -> dict[str, Declared]:
    """What params.py declares, by the style of scenes."""
    return {
        "scene": Declared(_shares(config.PlateParams, config), config.SceneParams.PLATE_ROTATION),
        "street": Declared(_shares(config.StreetPlateParams, config), config.StreetParams.ROLL),
    }


def _shares(plates: PlateParams, config: Config) -> dict[str, Shares]:
    formats = _normalised([plate.name for plate in FORMATS], plates.FORMAT_WEIGHTS)
    lines = {plate.name: str(plate.lines) for plate in FORMATS}
    by_lines: dict[str, float] = {}
    for name, share in formats.items():
        by_lines[lines[name]] = by_lines.get(lines[name], 0.0) + share
    return {
        "canton": _normalised(CANTONS, [1.0] * len(CANTONS)),
        "digits": _normalised([str(n + 1) for n in range(MAX_DIGITS)], plates.DIGIT_WEIGHTS),
        "digit": _digit_shares(plates.DIGIT_WEIGHTS),
        "format": formats,
        "lines": by_lines,
        "colour": _normalised([colour.name for colour in COLOURS], plates.COLOUR_WEIGHTS),
        # Nothing is declared of what lies between: equally many at best.
        "height": _even(config.QualityParams.HEIGHTS),
        "light": _even(config.QualityParams.LIGHTS),
        "angle": _even(TURNS),
    }


def _digit_shares(weights: Sequence[float]) -> Shares:
    """Of 0 to 9 among all digits: of each count the numbers are equally likely, and none begins with 0."""
    names = [str(digit) for digit in range(10)]
    others = sum(weight * count for count, weight in enumerate(weights))
    return _normalised(names, [(name != "0") * sum(weights) / 9 + others / 10 for name in names])


def _normalised(names: Sequence[str], weights: Sequence[float]) -> Shares:
    total = sum(weights)
    return {name: weight / total for name, weight in zip(names, weights, strict=True) if weight > 0}


def _even(edges: Sequence[float]) -> Shares:
    names = _names(edges)
    return dict.fromkeys(names, 1 / len(names))


def _names(edges: Sequence[float]) -> list[str]:
    return [f"{low:g} to {high:g}" for low, high in pairwise(edges)]


def coverage(evidence: Evidence) -> Scores:
    """What is compared with the limit is the number of holes: cells that hold less than a share of what
    is declared. No sample is flagged, as those that lack are not there.
    """
    params, styles = evidence.params, declared(evidence.config)
    frame = _values(evidence, styles)
    light = pd.DataFrame(
        {
            "style": evidence.samples.labels["style"],
            "light": _binned(evidence.pictures["brightness"], params.LIGHTS),
        }
    )
    texts = evidence.whole.labels["plate"].str[2:].map(list)
    digit = frame[["style"]].assign(digit=texts).explode("digit")
    single = [_cells(frame, (str(name),), styles) for name in frame if name != "style"]
    single += [_cells(digit, ("digit",), styles), _cells(light, ("light",), styles)]
    table = pd.concat([*single, *(_cells(frame, pair, styles) for pair in PAIRS)])
    judged = table["expected"] >= LEAST_EXPECTED
    if not judged.any():
        raise NotCheckedError("it is too small to tell, or of a style of which nothing is declared")
    holes = table[judged & (table["most"] < params.LEAST_SHARE * table["expected"])]
    return Scores(
        np.zeros(len(evidence.whole)),
        value=float(len(holes)),
        measures={
            "cells": int(judged.sum()),
            "balance": {
                part["range"].iloc[0]: balance(part["count"]) for part in single if len(part)
            },
        },
        tables={"holes": holes, "coverage": pd.concat(single)},
        explanation=[
            f"{row.range} {row.cell}: {row.found} samples, {row.expected:.0f} expected"
            for row in holes.rename(columns={"count": "found"}).itertuples()
        ],
    )


def _values(evidence: Evidence, styles: Mapping[str, Declared]) -> pd.DataFrame:
    """A row a sample: its style, and its cell of each range, or none."""
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


def _cells(
    frame: pd.DataFrame, names: tuple[str, ...], styles: Mapping[str, Declared]
) -> pd.DataFrame:
    """A row a declared cell: range, cell, count, what it may be by chance at most, and what is expected."""
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


def _product(first: Shares, second: Shares) -> Shares:
    return {f"{a} {b}": p * q for a, p in first.items() for b, q in second.items()}


def _binned(values: pd.Series, edges: Sequence[float]) -> pd.Series:
    """Names of the cells between edges; none outside of them."""
    return pd.cut(values, list(edges), right=False, labels=_names(edges)).astype(object)


def balance(counts: pd.Series) -> float:
    """Entropy of counts as a share of the highest possible one: 1 where all are equal."""
    shares = counts[counts > 0] / max(counts.sum(), 1)
    if len(counts) < 2:
        return 1.0
    return float(-(shares * np.log(shares)).sum() / np.log(len(counts)))
