"""Parameters of the data and label quality checks."""

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
    """Thresholds above which samples are flagged (the first of two numbers), and the fraction of flagged
    samples above which a check fails (the second). A higher score means a worse sample; src/quality
    documents how each score is computed.
    """

    SEED: Seed
    """Random seed of the samples taken from large sets, the clusters and the folds."""
    SAMPLES: Annotated[Integer, Field(ge=10)]
    """Number of samples per set for the checks that use images or models."""
    STACK_SAMPLES: Annotated[Integer, Field(ge=10)]
    """Number of samples per set of the stack, whose images are larger."""
    CORNERS: ThresholdAndLimit
    """Distance between the corners' upright box and the labelled box, relative to its longer side."""
    NEAR_DUPLICATES: ThresholdAndLimit
    """Correlation with another image of the same set."""
    LEAKED_NEARLY: ThresholdAndLimit
    """Correlation with an image of a set that must not share any with this one."""
    WRONG_TEXT: ThresholdAndLimit
    """Decimal logarithm of how much more likely another text is than the labelled one."""
    WRONG_BOX: ThresholdAndLimit
    """Shift of a box in standard deviations of the model's uncertainty, times its score."""
    MISSED_PLATE: ThresholdAndLimit
    """Score of a detected plate where the label has none."""
    DARK: ThresholdAndLimit
    """Darkness of an image: 1 minus the 99th percentile of its grey values (0 to 1)."""
    LIGHT: ThresholdAndLimit
    """Brightness of an image: the 5th percentile of its grey values (0 to 1)."""
    BLURRY: ThresholdAndLimit
    """Blurriness of an image, from 0 (sharp) to 1, measured by how little blurring changes it."""
    LOW_INFORMATION: ThresholdAndLimit
    """Lack of information in an image: 1 minus a tenth of its entropy in bits per pixel."""
    ODD_SIZE: ThresholdAndLimit
    """Distance from the middle of the usual image sizes, relative to their range (CleanVision)."""
    ODD_ASPECT_RATIO: ThresholdAndLimit
    """Elongation of an image: 1 minus the ratio of its shorter side to its longer one."""
    HEIGHTS: Edges
    """Edges of the bins of plate heights that must contain samples, in pixels of a 256-pixel scene."""
    LIGHTS: Edges
    """Edges of the bins of mean grey values (0 to 1) that must contain samples."""
    LEAST_SHARE: Probability
    """Fraction of the expected count below which a bin is a coverage gap."""
    COVERAGE_GAPS: Natural
    """Maximum number of coverage gaps."""
    CLUSTERS: Annotated[Integer, Field(ge=2, le=256)]
    """Number of clusters of the model's features."""
    UNLIKE_ALL: Positive
    """Distance from the nearest cluster above which a sample is flagged; 1 is the distance within which
    99 % of the samples lie."""
    LACKING_CLUSTERS: Natural
    """Maximum number of clusters that a set may lack compared with the other set."""
    UNCERTAINTY: Probability
    """Uncertainty (1 minus the mean confidence over the passes) above which a sample is flagged."""
    UNCERTAINTY_SAMPLES: Count
    """Number of samples that are evaluated in several passes."""
    PASSES: Annotated[Integer, Field(ge=2, le=100)]
    """Number of passes, with dropout or with the image shifted slightly."""
    CALIBRATION_ERROR: Probability
    """Maximum expected calibration error."""
    SHIFT: ThresholdAndLimit
    """Probability, according to a classifier, that a sample belongs to this set and not to the other;
    the second number is the maximum area under the ROC curve, which is 0.5 if the sets do not differ."""
