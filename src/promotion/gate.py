"""Decide whether a candidate is good enough to replace the promoted bundle.

Both read the same plates. On the primary set, the candidate must be better by McNemar's exact test on
the plates that only one of the two reads (McNemar, 1947). On the other sets it must not be worse by more
than a margin. On no slice of any set may it be worse by more than the margin and significantly so, at a
level corrected for the number of slices (Holm, 1979).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..evaluation.attributes import judge_colours
from ..evaluation.end_to_end import Scores, answers_to_hidden, given, texts_of
from ..evaluation.paired import SIGNIFICANT, Comparison, compare, holm

MARGIN = 0.005
"""Largest drop in the share of plates read that is allowed on any set but the primary one."""
LEAST_SLICE = 50
"""Minimum number of plates in a slice that is compared."""
MOST_GROWTH = {"size": 1.25, "latency": 1.25}
"""Maximum factors by which a candidate may be larger and slower than the promoted bundle."""
_HEIGHTS = [0, 15, 20, 30, 60, np.inf]
_SLICES = ("canton", "length", "height", "format", "hidden", "colour", "light")
RIGHT = "right"


@dataclass(frozen=True)
class Verdict:
    """Decision of the gate, with the comparisons behind it.

    Attributes:
        sets: Comparisons on whole sets, the primary one first.
        slices: Comparisons on the slices of all sets.
        costs: Values of the promoted bundle and the candidate, by the name of the cost.
        reasons: Reasons to refuse the candidate; empty if it passes.
    """

    sets: Sequence[Comparison]
    slices: Sequence[Comparison]
    costs: Mapping[str, tuple[float, float]]
    reasons: Sequence[str]

    @property
    def passes(self) -> bool:
        """Return whether the candidate may be promoted."""
        return not self.reasons

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as plain values for a manifest."""
        return {
            "sets": [_entry(each) for each in self.sets],
            "slices": len(self.slices),
            "costs": {name: list(values) for name, values in self.costs.items()},
            "margin": MARGIN,
        }


def _entry(each: Comparison) -> dict[str, Any]:
    values = asdict(each)
    # Manifests use these names.
    values["promoted"], values["candidate"] = values.pop("old"), values.pop("new")
    return {**values, "p_better": each.p_better, "p_worse": each.p_worse}


def plates_right(scores: Scores) -> pd.DataFrame:
    """Return one row per plate with a text: whether it is read correctly, and its slices."""
    texts = texts_of(scores)
    heights = pd.cut(texts["height"], _HEIGHTS, right=False)
    return pd.DataFrame(
        {
            RIGHT: texts["right"].to_numpy(bool),
            "canton": texts["plate"].str[:2],
            "length": texts["digits"].astype("Int64"),
            "height": heights.astype(str),
            "format": texts["format"].fillna(""),
        }
    ).reset_index(drop=True)


def images_right(scores: Scores, threshold: float) -> pd.DataFrame:
    """Return one row per image without a Swiss plate, which is right if no text is given."""
    with_text = set(given(scores, threshold)["image"])
    return pd.DataFrame({RIGHT: [i not in with_text for i in range(len(scores.found))]})


def hidden_right(scores: Scores, labels: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Return one row per image of a plate that is hidden in part: whether the answer is right.

    Of a plate with an illegible character no text but the true one may be given; one whose characters are
    all legible must be read. Other plates are left out.

    Args:
        scores: Results on the set, with one plate per image.
        labels: Labels of the set.
        threshold: Probability from which a text is given.
    """
    answers = answers_to_hidden(scores, labels, threshold)
    judged = answers[answers["hidden"] | answers["readable"]]
    return pd.DataFrame(
        {
            RIGHT: np.where(judged["hidden"], ~judged["wrong"], judged["right"] & ~judged["wrong"]),
            "format": judged["format"],
            "hidden": np.where(judged["hidden"], "illegible", "legible"),
        }
    ).reset_index(drop=True)


def colours_right(scores: Scores, labels: pd.DataFrame) -> pd.DataFrame:
    """Return one row per plate of a set in colour: whether it was found and its colour is right.

    Args:
        scores: Results on the set, with one plate per image.
        labels: Labels of the set, with the column ``light``.
    """
    return judge_colours(scores, labels)[[RIGHT, "colour", "light"]]


def judge(
    promoted: Mapping[str, pd.DataFrame],
    candidate: Mapping[str, pd.DataFrame],
    primary: str,
    costs: Mapping[str, tuple[float, float]],
) -> Verdict:
    """Judge a candidate against the promoted bundle.

    Args:
        promoted, candidate: Table of one of the functions above for each set. The rows of both must be
            the same plates or images in the same order.
        primary: Name of the set on which the candidate must be better.
        costs: Values of the promoted bundle and the candidate, by the names of ``MOST_GROWTH``.
    """
    names = [primary, *(name for name in promoted if name != primary)]
    sets = [
        compare(name, promoted[name][RIGHT].to_numpy(), candidate[name][RIGHT].to_numpy())
        for name in names
    ]
    slices = [each for name in names for each in _slices(name, promoted[name], candidate[name])]
    reasons = []
    first = sets[0]
    if not first.is_better:
        reasons.append(
            f"not better on {primary}: {first.gained} plates gained, {first.lost} lost "
            f"(p = {first.p_better:.2g}, must be below {SIGNIFICANT})"
        )
    reasons += [
        f"worse on {each.name} by {-each.difference:.2%}; at most {MARGIN:.2%} is allowed"
        for each in sets[1:]
        if each.difference < -MARGIN
    ]
    corrected = holm([each.p_worse for each in slices])
    reasons += [
        f"worse on the slice {each.name} by {-each.difference:.2%} (corrected p = {p:.2g})"
        for each, p in zip(slices, corrected, strict=True)
        if p < SIGNIFICANT and each.difference < -MARGIN
    ]
    reasons += [
        f"{name}: {new:g} instead of {old:g}; at most a factor of {MOST_GROWTH[name]} is allowed"
        for name, (old, new) in costs.items()
        if new > old * MOST_GROWTH[name]
    ]
    return Verdict(sets, slices, costs, reasons)


def _slices(name: str, promoted: pd.DataFrame, candidate: pd.DataFrame) -> list[Comparison]:
    return [
        compare(
            f"{name}, {column} {value}",
            group[RIGHT].to_numpy(),
            candidate.loc[group.index, RIGHT].to_numpy(),
        )
        for column in _SLICES
        if column in promoted
        for value, group in promoted.groupby(column, observed=True)
        if len(group) >= LEAST_SLICE
    ]


def tabulate(verdict: Verdict) -> str:
    """Format the comparison as a table to print."""
    header = f"{'set':<24}{'count':>7}{'promoted':>10}{'candidate':>11}{'gained':>8}{'lost':>6}  p"
    lines = [header]
    for number, each in enumerate(verdict.sets):
        name = f"{each.name} (primary)" if number == 0 else each.name
        if each.gained == each.lost:
            p = "same"
        elif each.gained > each.lost:
            p = f"{each.p_better:.2g} better"
        else:
            p = f"{each.p_worse:.2g} worse"
        lines.append(
            f"{name:<24}{each.count:>7}{_share(each.old, each.count):>10}"
            f"{_share(each.new, each.count):>11}{each.gained:>8}{each.lost:>6}  {p}"
        )
    lines.append(f"Also compared: {len(verdict.slices)} slices of at least {LEAST_SLICE} plates.")
    for name, (old, new) in verdict.costs.items():
        lines.append(f"{name:<24}{'':>7}{old:>10.4g}{new:>11.4g}")
    return "\n".join(lines)


def _share(right: int, count: int) -> str:
    return f"{right / count:.4f}" if count else "–"
