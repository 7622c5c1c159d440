"""Base classes of the quality checks: their input, their scores and their findings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..config import Config
from ..config.quality import QualityParams
from ..core.intervals import wilson
from .fingerprints import digests, signatures
from .measures import measure
from .networks import Networks
from .opinions import BoxOpinions, TextOpinions, box_opinions, text_opinions
from .samples import FloatArray, Samples


class NotCheckedError(Exception):
    """Raised when a check lacks the data or network it needs; the message names it. Not a failure."""


@dataclass(eq=False)
class Evidence:
    """A set to check and everything computed from it.

    Expensive properties are computed on first access. Properties that need a network raise
    ``NotCheckedError`` if no network provides them.

    Attributes:
        whole: The whole set.
        samples: Subset of ``whole`` for the checks that read images or run networks.
        networks: Networks that the checks query.
        config: Parameters of the project.
        unseen: True if the networks have not been trained on this set.
        against: Another set that this one is compared with.
        others: Sets that must not share an image with this one.
    """

    whole: Samples
    samples: Samples
    networks: Networks
    config: Config
    unseen: bool = True
    against: Evidence | None = None
    others: list[Evidence] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Name of the set."""
        return self.whole.name

    @property
    def params(self) -> QualityParams:
        """Thresholds and sizes of the checks."""
        return self.config.QualityParams

    def must_be_unseen(self) -> None:
        """Require that the networks have not been trained on this set.

        A network can judge labels only if it has not learnt them.

        Raises:
            NotCheckedError: The networks have been trained on this set.
        """
        if not self.unseen:
            raise NotCheckedError("the network has trained on these samples")

    @property
    def readable(self) -> Samples:
        """The samples, of which there is at least one.

        Raises:
            NotCheckedError: No sample of the set has an image that can be read.
        """
        if not len(self.samples):
            raise NotCheckedError("no sample of the set has an image that can be read")
        return self.samples

    @cached_property
    def images(self) -> pd.DataFrame:
        """Image statistics from src/quality/measures.py, one row per sample."""
        return measure(self.readable)

    @cached_property
    def digests(self) -> NDArray[np.bytes_]:
        """Digests of all images of the whole set, shape ``(n,)``: equal for identical images."""
        return digests(self.whole)

    @cached_property
    def first_equal(self) -> NDArray[np.intp]:
        """First row of the whole set whose image is identical to that of each row, shape ``(n,)``."""
        _, first, group = np.unique(self.digests, return_index=True, return_inverse=True)
        return first[group]

    @cached_property
    def rows(self) -> NDArray[np.intp]:
        """Rows of the whole set that the samples are, shape ``(n,)``."""
        numbers = pd.Index(self.whole.labels["sample"])
        return numbers.get_indexer(self.samples.labels["sample"])

    @cached_property
    def representatives(self) -> NDArray[np.intp]:
        """First sample whose image is identical to that of each sample, shape ``(n,)``."""
        _, first, group = np.unique(
            self.first_equal[self.rows], return_index=True, return_inverse=True
        )
        return first[group]

    @cached_property
    def signatures(self) -> FloatArray:
        """Signatures of the sampled images, shape ``(n, D)``: similar for similar images."""
        return signatures(self.readable)

    @cached_property
    def features(self) -> FloatArray:
        """L2-normalised network features of the samples, shape ``(n, D)``."""
        if self.networks.describe is None:
            raise NotCheckedError("no network provides features")
        features = self.networks.describe(self.readable).astype(np.float64)
        norms = np.linalg.norm(features, axis=1, keepdims=True)
        return features / np.maximum(norms, 1e-12)

    @cached_property
    def boxes(self) -> BoxOpinions:
        """Plates found in the images, compared with the labelled boxes."""
        if self.networks.find is None:
            raise NotCheckedError("no network detects plates")
        return box_opinions(self.readable, self.networks.find)

    @property
    def is_read(self) -> bool:
        """Whether the texts are known and a network can read them."""
        return self.networks.read is not None and self.samples.has_text

    @cached_property
    def texts(self) -> TextOpinions:
        """Texts read from the images, compared with the labelled texts."""
        if self.networks.read is None or not self.samples.has_text:
            raise NotCheckedError("no network reads plates, or the set has no texts")
        find, seed = self.networks.find, self.params.SEED
        return text_opinions(self.readable, self.networks.read, find, seed)


def evidence_of(
    samples: Samples,
    networks: Networks,
    config: Config,
    unseen: bool = True,
    count: int | None = None,
) -> Evidence:
    """Return the evidence for a set, with ``count`` samples drawn from it (default: from params.py)."""
    params = config.QualityParams
    sample = samples.sampled(count or params.SAMPLES, params.SEED)
    return Evidence(samples, sample, networks, config, unseen)


@dataclass(frozen=True)
class Scores:
    """Scores that a check gives a set.

    Attributes:
        each: Score of each sample, shape ``(n,)``. Higher is worse; NaN where the check does not apply.
        why: Function that returns the reason why a row is flagged.
        value: Value to compare with the limit. Defaults to the fraction of flagged samples.
        measures: Additional metrics for metrics.json.
        tables: Tables for the report and the plots, by name.
        groups: Rows of the examples that the report shows, by name of their group.
        judged: False if there is too little evidence to compare the value with the limit.
        explanation: Lines that the gate's message shows instead of the worst samples, for checks
            that blame no single sample.
    """

    each: FloatArray
    why: Callable[[int], str] = lambda _: ""
    value: float | None = None
    measures: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    groups: Mapping[str, list[int]] = field(default_factory=dict)
    judged: bool = True
    explanation: Sequence[str] = ()


@dataclass(frozen=True)
class Check:
    """A check of a set.

    A new check is a function that scores a set, and a line in src/quality/suite.py.

    Attributes:
        name: Name of the check in metrics.json.
        title: A few words on what a flagged sample is, or what is measured.
        score: Function that scores a set. Raises ``NotCheckedError`` if it has too little to go by.
        threshold: Samples with a higher score are flagged.
        limit: Largest value that passes the gate; usually a fraction of flagged samples.
        whole: True to check the whole set instead of a random sample of it.
        least: Smallest number of samples for which the check is made.
    """

    name: str
    title: str
    score: Callable[[Evidence], Scores]
    threshold: float
    limit: float
    whole: bool = field(default=False, kw_only=True)
    least: int = field(default=1, kw_only=True)

    def __call__(self, evidence: Evidence) -> Finding:
        """Check a set; if it is too small, the finding holds a warning instead of scores."""
        samples = evidence.whole if self.whole else evidence.samples
        try:
            if len(samples) < self.least:
                raise NotCheckedError(f"{len(samples)} samples; {self.least} are needed")
            return Finding(evidence.name, self, samples, self.score(evidence))
        except NotCheckedError as reason:
            return Finding(evidence.name, self, samples, None, str(reason))


@dataclass(frozen=True)
class Finding:
    """Result of a check of a set.

    Attributes:
        set: Name of the set.
        check: Check that produced the finding.
        samples: Samples that were checked; all row numbers refer to them.
        scores: Scores of the samples; None if the check was not made.
        warning: Reason why the check was not made.
    """

    set: str
    check: Check
    samples: Samples
    scores: Scores | None
    warning: str = ""

    @cached_property
    def flagged(self) -> NDArray[np.intp]:
        """Rows whose score exceeds the threshold, sorted by descending score."""
        if self.scores is None:
            return np.empty(0, np.intp)
        values = np.nan_to_num(self.scores.each, nan=-np.inf)
        rows = np.flatnonzero(values > self.check.threshold)
        return rows[np.argsort(-values[rows], kind="stable")]

    @property
    def checked(self) -> int:
        """Number of samples that have a score."""
        return 0 if self.scores is None else int((~np.isnan(self.scores.each)).sum())

    @property
    def value(self) -> float | None:
        """Value to compare with the limit; None if there is none."""
        if self.scores is None:
            return None
        if self.scores.value is not None:
            return self.scores.value
        return len(self.flagged) / self.checked if self.checked else None

    @property
    def failed(self) -> bool:
        """Whether the value exceeds the limit.

        A fraction fails only if its 95 % Wilson interval lies above the limit, so that a few samples do
        not fail a small set by chance.
        """
        if self.scores is None or self.value is None or not self.scores.judged:
            return False
        if self.scores.value is not None:
            return self.value > self.check.limit
        count = len(self.flagged)
        return count > 0 and wilson(count, self.checked)[0] > self.check.limit
