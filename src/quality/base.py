"""What a check is, what it is given, and what comes out of it."""

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
    """A check has too little to say anything; the message says what it lacks. No failure."""


@dataclass(eq=False)
class Evidence:
    """A set to check, with what is known of it; what costs time is computed when it is first asked for.

    What networks tell raises NotCheckedError where there is no network that tells it.

    Attributes:
        whole: all of the set.
        samples: those of it that pictures and networks are looked at of.
        networks: that are asked.
        config: the parameters.
        unseen: whether the networks have not trained on it.
        against: another set that it is compared with.
        others: sets that it must share no picture with.
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
        """Of the set."""
        return self.whole.name

    @property
    def params(self) -> QualityParams:
        """Thresholds and sizes."""
        return self.config.QualityParams

    def must_be_unseen(self) -> None:
        """What a network thinks of labels is sound only where it has not learnt them.

        Raises:
            NotCheckedError: it has.
        """
        if not self.unseen:
            raise NotCheckedError("the network has trained on these samples")

    @cached_property
    def pictures(self) -> pd.DataFrame:
        """A row a sample: what src/quality/measures.py measures."""
        return measure(self.samples)

    @cached_property
    def digests(self) -> NDArray[np.bytes_]:
        """``(n,)`` of all pictures of the whole set: equal where the pictures are."""
        return digests(self.whole)

    @cached_property
    def signatures(self) -> FloatArray:
        """``(n, D)`` of the sampled pictures: alike where the pictures are."""
        return signatures(self.samples)

    @cached_property
    def features(self) -> FloatArray:
        """``(n, D)`` of the network, of length 1."""
        if self.networks.describe is None:
            raise NotCheckedError("there is no network that gives features")
        features = self.networks.describe(self.samples).astype(np.float64)
        norms = np.linalg.norm(features, axis=1, keepdims=True)
        return features / np.maximum(norms, 1e-12)

    @cached_property
    def boxes(self) -> BoxOpinions:
        """What is found in the pictures."""
        if self.networks.find is None:
            raise NotCheckedError("no network finds plates")
        return box_opinions(self.samples, self.networks.find)

    @property
    def is_read(self) -> bool:
        """Whether texts are known, and a network reads them."""
        return self.networks.read is not None and self.samples.has_text

    @cached_property
    def texts(self) -> TextOpinions:
        """What is read."""
        if self.networks.read is None or not self.samples.has_text:
            raise NotCheckedError("no network reads, or no texts are given")
        networks = self.networks
        return text_opinions(self.samples, self.networks.read, networks.find, self.params.SEED)


def evidence_of(
    samples: Samples,
    networks: Networks,
    config: Config,
    unseen: bool = True,
    count: int | None = None,
) -> Evidence:
    """A set, of which ``count`` samples are looked at; by default as many as params.py says."""
    params = config.QualityParams
    sample = samples.sampled(count or params.SAMPLES, params.SEED)
    return Evidence(samples, sample, networks, config, unseen)


@dataclass(frozen=True)
class Scores:
    """What a check makes of a set.

    Attributes:
        each: ``(n,)`` one a sample, higher is worse; not a number where it does not apply.
        why: says of a row why it is flagged.
        value: what is compared with the limit; by default the share of flagged samples.
        measures: for metrics.json.
        tables: by name, for the report and for plots.
        groups: by name, rows of examples that the report shows.
        judged: whether there is enough to compare with the limit.
        explanation: where no sample is to blame, what the gate says instead of the worst ones.
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
    """A check of a set. A new one is a function, and a line in src/quality/suite.py.

    Attributes:
        name: in metrics.json.
        title: what a flagged sample is, or what is measured; a few words.
        score: scores a set; raises NotCheckedError where there is too little to say anything.
        threshold: a sample whose score is higher is flagged.
        limit: the gate: most of what is compared, as a rule the share of flagged samples.
        whole: whether it looks at the whole set, and not at a sample of it.
        least: fewest samples that it says something about.
    """

    name: str
    title: str
    score: Callable[[Evidence], Scores]
    threshold: float
    limit: float
    whole: bool = field(default=False, kw_only=True)
    least: int = field(default=1, kw_only=True)

    def __call__(self, evidence: Evidence) -> Finding:
        """Check a set; one that is too small gives a warning."""
        samples = evidence.whole if self.whole else evidence.samples
        try:
            if len(samples) < self.least:
                raise NotCheckedError(f"{len(samples)} samples; {self.least} are needed")
            return Finding(evidence.name, self, samples, self.score(evidence))
        except NotCheckedError as reason:
            return Finding(evidence.name, self, samples, None, str(reason))


@dataclass(frozen=True)
class Finding:
    """A check of a set.

    Attributes:
        set: its name.
        check: that was made.
        samples: that it looked at; rows below are theirs.
        scores: what it made of them; None where it was not made.
        warning: why it was not made.
    """

    set: str
    check: Check
    samples: Samples
    scores: Scores | None
    warning: str = ""

    @cached_property
    def flagged(self) -> NDArray[np.intp]:
        """Rows whose score is beyond the threshold, the worst first."""
        if self.scores is None:
            return np.empty(0, np.intp)
        values = np.nan_to_num(self.scores.each, nan=-np.inf)
        rows = np.flatnonzero(values > self.check.threshold)
        return rows[np.argsort(-values[rows], kind="stable")]

    @property
    def checked(self) -> int:
        """Samples with a score."""
        return 0 if self.scores is None else int((~np.isnan(self.scores.each)).sum())

    @property
    def value(self) -> float | None:
        """What is compared with the limit; None where there is nothing."""
        if self.scores is None:
            return None
        if self.scores.value is not None:
            return self.scores.value
        return len(self.flagged) / self.checked if self.checked else None

    @property
    def failed(self) -> bool:
        """Whether it is beyond the limit; a share must be so beyond doubt (95 %), however few they are."""
        if self.scores is None or self.value is None or not self.scores.judged:
            return False
        if self.scores.value is not None:
            return self.value > self.check.limit
        count = len(self.flagged)
        return count > 0 and wilson(count, self.checked)[0] > self.check.limit
