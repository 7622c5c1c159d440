"""Parameters of training, fine-tuning and evaluation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .types import Count, Number, Probability, Section, Seed, Share


class TrainerConfig(Section):
    accelerator: Literal["auto", "cpu", "cuda"]
    """Hardware used for training; auto is cuda if available, else cpu."""
    devices: Count
    """Number of processes per node."""
    num_nodes: Count
    """Number of nodes."""
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
    """Numerical precision; auto is bf16-mixed if a few training steps are at least a tenth faster in
    it, else 32-true."""


class _Train(Section):
    SEED: Seed
    """Random seed of the weights and the order of the samples."""
    LR: Annotated[Number, Field(gt=0, le=1)]
    """Maximum learning rate of the optimizer (Muon and AdamW)."""
    WEIGHT_DECAY: Annotated[Number, Field(ge=0)]
    """Weight decay of the optimizer."""
    WARMUP: Annotated[Number, Field(ge=0, lt=1)]
    """Fraction of the steps in which the learning rate rises; it then follows a cosine decay."""
    EMA_DECAY: Annotated[Number, Field(ge=0, lt=1)]
    """Decay of the moving average of the weights, which is validated and saved as the model."""
    EPOCHS: Count
    """Number of passes over the training set."""
    VALIDATE_EVERY: Count
    """Number of steps between two validations, limited to an epoch."""
    PATIENCE: Count
    """Number of validations without an improvement after which training stops."""


class TrainLocalizeParams(_Train):
    pass


class TrainOCRParams(_Train):
    CORNER_JITTER: Annotated[Number, Field(ge=0, le=10)]
    """Factor that scales the localizer's measured corner errors, by which the corners are jittered
    (recognizers that rectify by corners)."""
    BOX_JITTER: Annotated[Number, Field(ge=0, le=0.5)]
    """Maximum relative change of the box's sides (recognizers that rectify by box)."""
    BOX_SKEW: Annotated[Number, Field(ge=0, le=30)]
    """Maximum rotation of the crop in degrees, either way (recognizers that rectify by box)."""
    LINES_ERROR: Probability
    """Probability that a crop is cut for the wrong number of lines and thus has no text (recognizers
    that rectify by corners)."""
    SNAP_PROBABILITY: Probability
    """Probability that a plate that is partly hidden is cropped by its visible part."""
    TONE_JITTER: Annotated[Number, Field(ge=0, le=0.9)]
    """Maximum change of the logarithm of gamma, and maximum reduction of the contrast."""
    BLUR_JITTER: Annotated[Number, Field(ge=0, le=5)]
    """Maximum sigma of the blur in pixels of the crop."""


class _Finetune(Section):
    LR: Annotated[Number, Field(gt=0, le=1)]
    """Maximum learning rate; the other settings are those of the training."""
    STEPS: Count
    """Approximate number of batches; each sixth of them contains all feedback at least once."""
    FEEDBACK_SHARE: Share
    """Fraction of feedback among the samples; the others come from the synthetic set, to prevent
    forgetting."""
    ORIGINAL_SHARE: Probability
    """Weight of the original parameters in the interpolation with the fine-tuned ones (WiSE-FT), from 0
    to 1."""


class FinetuneLocalizeParams(_Finetune):
    pass


class FinetuneOCRParams(_Finetune):
    pass


class _Evaluate(Section):
    SEED: Seed
    """Random seed of the choice of displayed images."""


class EvaluateLocalizeParams(_Evaluate):
    pass


class EvaluateOCRParams(_Evaluate):
    pass


class EvaluateStackParams(_Evaluate):
    pass
