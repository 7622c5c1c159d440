"""Parameters of the checks of data and labels."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .types import (
    Count,
    Edges,
    Integer,
    Natural,
    Positive,
    Probability,
    Section,
    Seed,
    ThresholdAndLimit,
)


class QualityParams(Section):
    """When samples are flagged (the first of two numbers), and beyond which share of them a check fails
    (the second). All scores rise with what is wrong; src/quality says how each is made.
    """

    SEED: Seed
    """Of what is drawn: samples of large sets, clusters, folds."""
    SAMPLES: Annotated[Integer, Field(ge=10)]
    """Samples of each set that images and networks are looked at of."""
    STACK_SAMPLES: Annotated[Integer, Field(ge=10)]
    """Likewise of each of the stack's sets, whose images are larger."""
    CORNERS: ThresholdAndLimit
    """Distance of the corners' upright box from the given one, as a share of its longer side."""
    NEAR_DUPLICATES: ThresholdAndLimit
    """Correlation with another image of the set."""
    LEAKED_NEARLY: ThresholdAndLimit
    """Correlation with an image of a set that it must share none with."""
    WRONG_TEXT: ThresholdAndLimit
    """Decimal logarithm of how much likelier another text is."""
    WRONG_BOX: ThresholdAndLimit
    """Shift of a box, in standard deviations of what the network is unsure by, times its score."""
    MISSED_PLATE: ThresholdAndLimit
    """Score of a plate that is found where the label has none."""
    DARK: ThresholdAndLimit
    """One less the 99th percentile of the grey values (0 to 1)."""
    LIGHT: ThresholdAndLimit
    """Their 5th percentile."""
    BLURRY: ThresholdAndLimit
    """How little an image changes when it is blurred, from 0 (sharp) to 1."""
    LOW_INFORMATION: ThresholdAndLimit
    """One less a tenth of the entropy in bits a pixel."""
    ODD_SIZE: ThresholdAndLimit
    """Distance from the middle of the usual sizes, 1 being their range (CleanVision)."""
    ODD_ASPECT_RATIO: ThresholdAndLimit
    """One less the shorter side over the longer one."""
    HEIGHTS: Edges
    """Edges of cells of plates' heights that must hold samples, in pixels of a scene of 256."""
    LIGHTS: Edges
    """Edges of cells of mean grey values (0 to 1) that must hold samples."""
    LEAST_SHARE: Probability
    """A cell that holds less than this share of what is expected is a hole."""
    HOLES: Natural
    """Cells that may be holes."""
    CLUSTERS: Annotated[Integer, Field(ge=2, le=256)]
    """Clusters of the network's features."""
    UNLIKE_ALL: Positive
    """Distance from all clusters beyond which a sample is flagged, 1 being that of 99 % of them."""
    LACKING_CLUSTERS: Natural
    """Clusters that a set may lack beside the one that it is compared with."""
    DOUBT: Probability
    """One less the mean confidence over the passes, beyond which a sample is flagged."""
    DOUBT_SAMPLES: Count
    """Samples that are looked at in several passes."""
    PASSES: Annotated[Integer, Field(ge=2, le=100)]
    """Passes with dropout, or with the image moved a little."""
    CALIBRATION_ERROR: Probability
    """Largest expected calibration error."""
    SHIFT: ThresholdAndLimit
    """Chance that a sample is told from the other set; the second number is the largest area under the
    ROC curve, 0.5 being that of sets of one kind."""
