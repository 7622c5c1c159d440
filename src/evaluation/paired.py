"""Paired comparison of two models on the same plates, used by the gate and the report.

McNemar's exact test (McNemar, 1947) considers the plates that only one of the two models reads. If
neither model is better, each of these plates is read by either model with equal probability, like the
toss of a coin.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

SIGNIFICANT = 0.05
"""Significance level: differences with a p-value of at least this are attributed to chance."""
FILE = "plates_read.json"
"""Name of the file of ``write_outcomes`` in the results folder of an evaluation."""


@dataclass(frozen=True)
class Comparison:
    """Paired results of two models on the same plates.

    Attributes:
        name: Name of the set or slice.
        count: Number of plates.
        old, new: Number of plates that the old and the new model read.
        gained, lost: Number of plates that only the new model reads, and that only the old model reads.
    """

    name: str
    count: int
    old: int
    new: int
    gained: int
    lost: int

    @property
    def difference(self) -> float:
        """Return the difference of the shares of plates read, positive if the new model is better."""
        return (self.new - self.old) / self.count if self.count else 0.0

    @property
    def p_better(self) -> float:
        """Return the probability of at least this many gains if neither model were better."""
        return exact_mcnemar(self.gained, self.lost)

    @property
    def p_worse(self) -> float:
        """Return the probability of at least this many losses if neither model were better."""
        return exact_mcnemar(self.lost, self.gained)

    @property
    def is_better(self) -> bool:
        """Return whether the new model is significantly better."""
        return self.p_better < SIGNIFICANT

    @property
    def is_worse(self) -> bool:
        """Return whether the new model is significantly worse."""
        return self.p_worse < SIGNIFICANT


def exact_mcnemar(more: int, less: int) -> float:
    """Return the one-sided p-value of ``more`` against ``less`` discordant pairs."""
    if not more + less:
        return 1.0
    return float(binomtest(more, more + less, 0.5, alternative="greater").pvalue)


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Return the p-values of a family of tests, corrected for multiple testing (Holm, 1979)."""
    values = np.asarray(p_values, float)
    order = np.argsort(values)
    factors = np.arange(len(values), 0, -1)
    corrected = np.minimum(np.maximum.accumulate(values[order] * factors), 1.0)
    result = np.empty_like(values)
    result[order] = corrected
    return result


def compare(name: str, old: NDArray[np.bool_], new: NDArray[np.bool_]) -> Comparison:
    """Compare which of the same plates each of two models reads.

    Args:
        name: Name of the set or slice.
        old: Whether the old model reads each plate, shape ``(N,)``.
        new: Whether the new model reads each plate, shape ``(N,)``.

    Raises:
        ValueError: The numbers of plates differ.
    """
    if old.shape != new.shape:
        raise ValueError(
            f"{name}: the models must read the same plates, got {len(old)} and {len(new)}"
        )
    return Comparison(
        name, len(old), int(old.sum()), int(new.sum()),
        int((new & ~old).sum()), int((old & ~new).sum()),
    )  # fmt: skip


@dataclass(frozen=True)
class Outcomes:
    """Which plates of a set a model reads.

    Attributes:
        data: Digest of the set, which is equal if the plates are the same.
        right: Whether the text of each plate is read correctly, shape ``(N,)``.
    """

    data: str
    right: NDArray[np.bool_]


def write_outcomes(path: Path, sets: Mapping[str, Outcomes]) -> None:
    """Write the outcomes of sets by name, with one digit per plate: 1 if it is read, 0 if not."""
    content = {
        name: {"data": each.data, "right": "".join(map(str, each.right.astype(int).tolist()))}
        for name, each in sets.items()
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def parse_outcomes(text: str) -> dict[str, Outcomes]:
    """Return the outcomes in a file written by ``write_outcomes``.

    Raises:
        ValueError: The file is damaged.
    """
    try:
        content: dict[str, Any] = json.loads(text)
        return {
            name: Outcomes(each["data"], np.array([int(digit) for digit in each["right"]], bool))
            for name, each in content.items()
        }
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"the outcomes are damaged: {error}") from error


def compare_outcomes(
    old: Mapping[str, Outcomes], new: Mapping[str, Outcomes]
) -> dict[str, Comparison]:
    """Compare two models on each set for which both have outcomes on the same plates."""
    return {
        name: compare(name, old[name].right, new[name].right)
        for name in new
        if name in old
        and old[name].data == new[name].data
        and len(old[name].right) == len(new[name].right)
    }
