"""Better or worse: two models on the same plates, by the one test that the gate and the report use.

McNemar's exact test (McNemar, 1947) looks at the plates that only one of both models reads. If neither is
better, each of them is the one's or the other's like the sides of a coin.
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
"""Differences that chance makes at least this often are none."""
FILE = "plates_read.json"
"""Name of the file of ``write_outcomes``, among the results of an evaluation."""


@dataclass(frozen=True)
class Comparison:
    """Two models on the same plates.

    Attributes:
        name: Name of the set or slice.
        count: Number of plates.
        old, new: Number of plates that each model reads.
        gained, lost: Number of plates that only the new, or only the old one reads.
    """

    name: str
    count: int
    old: int
    new: int
    gained: int
    lost: int

    @property
    def difference(self) -> float:
        """Difference of the shares that are read, positive where the new model is better."""
        return (self.new - self.old) / self.count if self.count else 0.0

    @property
    def p_better(self) -> float:
        """Probability of so many gains if neither model were better."""
        return exact_mcnemar(self.gained, self.lost)

    @property
    def p_worse(self) -> float:
        """Probability of so many losses if neither model were better."""
        return exact_mcnemar(self.lost, self.gained)

    @property
    def is_better(self) -> bool:
        """Whether the new model is significantly better."""
        return self.p_better < SIGNIFICANT

    @property
    def is_worse(self) -> bool:
        """Whether the new model is significantly worse."""
        return self.p_worse < SIGNIFICANT


def exact_mcnemar(more: int, less: int) -> float:
    """Return the one-sided p-value of ``more`` against ``less`` discordant pairs."""
    if not more + less:
        return 1.0
    return float(binomtest(more, more + less, 0.5, alternative="greater").pvalue)


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Return the p-values of a family of tests, corrected for their number (Holm, 1979)."""
    values = np.asarray(p_values, float)
    order = np.argsort(values)
    factors = np.arange(len(values), 0, -1)
    corrected = np.minimum(np.maximum.accumulate(values[order] * factors), 1.0)
    result = np.empty_like(values)
    result[order] = corrected
    return result


def compare(name: str, old: NDArray[np.bool_], new: NDArray[np.bool_]) -> Comparison:
    """Count what each of two models reads of the same plates.

    Args:
        name: Name of the set or slice.
        old: ``(N,)``, true where the old model reads the plate.
        new: ``(N,)``, the same of the new model.

    Raises:
        ValueError: The numbers of plates differ.
    """
    if old.shape != new.shape:
        raise ValueError(f"{name}: {len(old)} and {len(new)} plates")
    return Comparison(
        name, len(old), int(old.sum()), int(new.sum()),
        int((new & ~old).sum()), int((old & ~new).sum()),
    )  # fmt: skip


@dataclass(frozen=True)
class Outcomes:
    """Which plates of a set a model reads.

    Attributes:
        data: Digest of the set, equal where the plates are the same.
        right: ``(N,)``, true where the text of a plate is right.
    """

    data: str
    right: NDArray[np.bool_]


def write_outcomes(path: Path, sets: Mapping[str, Outcomes]) -> None:
    """Write the outcomes of sets by name, a digit for each plate: 1 where it is read."""
    content = {
        name: {"data": each.data, "right": "".join(map(str, each.right.astype(int).tolist()))}
        for name, each in sets.items()
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def parse_outcomes(text: str) -> dict[str, Outcomes]:
    """Return the outcomes of a file of ``write_outcomes``.

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
        raise ValueError(f"{error} is not as it should be") from error


def compare_outcomes(
    old: Mapping[str, Outcomes], new: Mapping[str, Outcomes]
) -> dict[str, Comparison]:
    """Compare two models on each set of which both have read the same plates."""
    return {
        name: compare(name, old[name].right, new[name].right)
        for name in new
        if name in old
        and old[name].data == new[name].data
        and len(old[name].right) == len(new[name].right)
    }
