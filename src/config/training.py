"""Parameters of training, fine-tuning and evaluation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .types import Count, Number, Probability, Section, Seed, Share


class TrainerConfig(Section):
    accelerator: Literal["auto", "cpu", "cuda"]
    """Hardware to train on."""
    devices: Count
    """Processes on each node."""
    num_nodes: Count
    """Nodes."""
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
    """auto: bf16-mixed where a few steps of the training are faster in it by a tenth, else 32-true."""


class _Train(Section):
    SEED: Seed
    """Of the weights and the order of the samples."""
    LR: Annotated[Number, Field(gt=0, le=1)]
    """Highest learning rate of AdamW."""
    WEIGHT_DECAY: Annotated[Number, Field(ge=0)]
    """Weight decay of AdamW."""
    WARMUP: Annotated[Number, Field(ge=0, lt=1)]
    """Share of the steps in which the rate rises; then it falls by a cosine."""
    EMA_DECAY: Annotated[Number, Field(ge=0, lt=1)]
    """Decay of the moving average of the weights; validation and the model are the average."""
    EPOCHS: Count
    """Passes over the training set."""
    VALIDATE_EVERY: Count
    """Steps between two validations (at most an epoch)."""
    PATIENCE: Count
    """Validations without a better measure before training stops."""


class TrainLocalizeParams(_Train):
    pass


class TrainOCRParams(_Train):
    CORNER_JITTER: Annotated[Number, Field(ge=0, le=10)]
    """Factor on the localizer's measured errors, by which corners are off (readers by corners)."""
    BOX_JITTER: Annotated[Number, Field(ge=0, le=0.5)]
    """Largest change of the box's sides, as a share (readers by box)."""
    BOX_SKEW: Annotated[Number, Field(ge=0, le=30)]
    """Largest turn of the crop in degrees (readers by box)."""
    LINES_ERROR: Probability
    """Share of crops that are cut for the wrong number of lines and have no text (readers by corners)."""
    TONE_JITTER: Annotated[Number, Field(ge=0, le=0.9)]
    """Largest change of the logarithm of gamma, and most contrast that is taken away."""
    BLUR_JITTER: Annotated[Number, Field(ge=0, le=5)]
    """Largest sigma of a blur in pixels of the crop."""


class _Finetune(Section):
    LR: Annotated[Number, Field(gt=0, le=1)]
    """Highest learning rate of AdamW; what else is learnt by is the training's."""
    STEPS: Count
    """Batches, about; in each sixth of them all feedback is passed at least once."""
    FEEDBACK_SHARE: Share
    """Share of the samples that are feedback; the others are of the synthetic set, so that nothing of it
    is forgotten."""
    KEPT: Probability
    """Share of the trained weights in the mean of these and the fine-tuned ones, which is what is used."""


class FinetuneLocalizeParams(_Finetune):
    pass


class FinetuneOCRParams(_Finetune):
    pass


class _Evaluate(Section):
    SEED: Seed
    """Of the choice of images that are shown."""


class EvaluateLocalizeParams(_Evaluate):
    pass


class EvaluateOCRParams(_Evaluate):
    pass


class EvaluateStackParams(_Evaluate):
    pass
