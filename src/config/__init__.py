"""The parameters of params.py and params.yaml, checked: names, types, ranges.

``load_config()`` reads both files of the current folder. Values live in those two files only; this
module says what each means and may be. An error names the file, the parameter and what is allowed.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from ..core.charset import CHARSET, MAX_DIGITS
from ..core.errors import UserError

PARAMS_FILE = Path("params.py")
PATHS_FILE = Path("params.yaml")


class ConfigError(UserError):
    """A parameter is unknown, missing, of the wrong type or out of its range."""


def _ordered(values: list[float]) -> list[float]:
    if values[0] > values[1]:
        raise ValueError("a range is [low, high] with low <= high")
    return values


def _some_weight(values: list[float]) -> list[float]:
    if sum(values) <= 0:
        raise ValueError("at least one weight must be above 0")
    return values


def _no_bool(value: Any) -> Any:
    # bool is a subclass of int: EPOCHS = True would pass for 1.
    if isinstance(value, bool):
        raise ValueError("a number is wanted, not a boolean")
    return value


Integer = Annotated[int, BeforeValidator(_no_bool), Field(strict=True)]
Number = Annotated[float, BeforeValidator(_no_bool)]
Count = Annotated[Integer, Field(ge=1)]
Seed = Annotated[Integer, Field(ge=0, lt=2**63)]
Probability = Annotated[Number, Field(ge=0, le=1)]
Positive = Annotated[Number, Field(gt=0)]
Weight = Annotated[Number, Field(ge=0)]
PositiveRange = Annotated[
    list[Positive], Field(min_length=2, max_length=2), AfterValidator(_ordered)
]
Size = Annotated[list[Annotated[Integer, Field(ge=1)]], Field(min_length=2, max_length=2)]
ImageShape = Annotated[list[Annotated[Integer, Field(ge=1)]], Field(min_length=3, max_length=3)]
Layers = Annotated[list[Annotated[Integer, Field(ge=0)]], Field(min_length=1)]
Channels = Annotated[list[Annotated[Integer, Field(ge=1)]], Field(min_length=8, max_length=8)]


ProbabilityRange = Annotated[
    list[Probability], Field(min_length=2, max_length=2), AfterValidator(_ordered)
]
Degrees = Annotated[Number, Field(ge=0, le=60)]
Angles = Annotated[
    list[Annotated[Number, Field(ge=-60, le=60)]],
    Field(min_length=2, max_length=2),
    AfterValidator(_ordered),
]
Quality = Annotated[
    list[Annotated[Integer, Field(ge=1, le=100)]],
    Field(min_length=2, max_length=2),
    AfterValidator(_ordered),
]


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("an odd number is wanted: a box has a middle")
    return value


def _grey(shape: list[int]) -> list[int]:
    if shape[0] != 1:
        raise ValueError("the pipeline is grey: the shape is [1, height, width]")
    return shape


def _square(size: list[int]) -> list[int]:
    if size[0] != size[1]:
        raise ValueError("scenes are square: [side, side]")
    return size


GreyShape = Annotated[ImageShape, AfterValidator(_grey)]
SceneSize = Annotated[
    list[Annotated[Integer, Field(ge=64, le=2048)]],
    Field(min_length=2, max_length=2),
    AfterValidator(_square),
]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class PlateParams(_Section):
    """What plates are drawn. Lengths of the lists are those of the tables in src/generators."""

    FORMAT_WEIGHTS: Annotated[
        list[Weight], Field(min_length=6, max_length=6), AfterValidator(_some_weight)
    ]
    """Weights of front, front_long, rear_long, rear_high, motorcycle, light_motorcycle."""
    COLOUR_WEIGHTS: Annotated[
        list[Weight], Field(min_length=7, max_length=7), AfterValidator(_some_weight)
    ]
    """Weights of white, blue, brown, green, yellow, black, red."""
    DIGIT_WEIGHTS: Annotated[
        list[Weight],
        Field(min_length=MAX_DIGITS, max_length=MAX_DIGITS),
        AfterValidator(_some_weight),
    ]
    """Weights of 1 to 7 digits."""
    FAMILY_WEIGHTS: Annotated[
        list[Weight], Field(min_length=3, max_length=3), AfterValidator(_some_weight)
    ]
    """Weights of the glyph families din, narrow, grotesk."""
    GLYPH_VARIANTS: Annotated[Integer, Field(ge=1, le=1024)]
    """Glyph variants in the seeded atlas."""
    # The limits of both are those of GlyphStyle in src/generators/glyphs.py.
    GLYPH_WIDTH: Annotated[
        list[Annotated[Number, Field(ge=0.8, le=1.25)]],
        Field(min_length=2, max_length=2),
        AfterValidator(_ordered),
    ]
    """Horizontal scale of the glyphs' skeletons."""
    GLYPH_STROKE: Annotated[
        list[Annotated[Number, Field(ge=0.1, le=0.16)]],
        Field(min_length=2, max_length=2),
        AfterValidator(_ordered),
    ]
    """Stroke width in cap heights."""
    SPACING: PositiveRange
    """Factor on the distance of neighbouring characters."""
    SHIELD_HEIGHT: PositiveRange
    """Factor on the height of the arms."""
    GROUP_GAP_PROBABILITY: Probability
    """Share of plates with a wider gap before the last three digits (new plates have it)."""
    FOOT_PROBABILITY: Probability
    """Share of glyph variants whose 1 stands on a foot."""
    ALTERNATE_PROBABILITY: Probability
    """Share of characters that take another form than their family's, where there is one."""
    GLYPH_WARP: Probability
    """How far proportions and roundness vary, as a share of what keeps every character legible."""
    FONT_PROBABILITY: Probability
    """Share of glyph variants in the typeface that OpenCV embeds."""
    GROUND: ProbabilityRange
    """Factor on the brightness of the plate's ground."""
    FRAME_PROBABILITY: Probability
    """Share of plates in a dealer's frame."""
    SCREW_PROBABILITY: Probability
    """Share of plates with visible screws."""
    EDGE_PROBABILITY: Probability
    """Share of plates without a frame that have a black line around, as the seed's have."""


class StreetPlateParams(PlateParams):
    """What plates are drawn in street scenes, those that stand for photographs."""


class StreetParams(_Section):
    """How street scenes are composed and degraded. Lengths are shares of what is named."""

    KIND_WEIGHTS: Annotated[
        list[Weight], Field(min_length=4, max_length=4), AfterValidator(_some_weight)
    ]
    """Weights of Swiss plates, foreign plates, signs, and nothing."""
    YAW: Degrees
    """Degrees that the plate is seen from the side, at most."""
    PITCH: Angles
    """Degrees that it is seen from below (negative) to above."""
    ROLL: Degrees
    """Degrees that it is turned in the picture, at most."""
    DISTANCE: PositiveRange
    """Of the camera, in lengths of the plate: the nearer, the stronger the perspective."""
    SUFFIX_PROBABILITY: Probability
    """Share of plates with a letter behind the number (dealers)."""
    PROVISIONAL_PROBABILITY: Probability
    """Share of front plates with the bar of provisional ones."""
    NO_RIM_PROBABILITY: Probability
    """Share of plates whose rim line does not show."""
    EMBOSS: ProbabilityRange
    """Contrast of the characters' lit edges."""
    MOSAIC_PROBABILITY: Probability
    """Share of backgrounds of several pictures at their own sharpness, not one enlarged."""
    TEXTURE_PROBABILITY: Probability
    """Share of backgrounds that are sharp structure alone."""
    PLAIN_PROBABILITY: Probability
    """Share of backgrounds of one grey."""
    SURROUND_PROBABILITY: Probability
    """Share of plates with panels and edges of a car around them."""
    CUT_PROBABILITY: Probability
    """Share of pictures that end around the plate; beyond is the grey of padding."""
    SHADOW_PROBABILITY: Probability
    """Share of scenes with the edge of a shadow."""
    GLARE_PROBABILITY: Probability
    """Share of scenes with a bright spot."""
    DIRT_PROBABILITY: Probability
    """Share of plates with dirt."""
    OCCLUSION_PROBABILITY: Probability
    """Share of plates whose edge something hides."""
    SHADE: ProbabilityRange
    """Fall of light across the scene."""
    CONTRAST: PositiveRange
    """Share of the grey range that is used."""
    GAMMA: PositiveRange
    """Exponent of the grey curve."""
    BLUR: ProbabilityRange
    """Sigma of the lens blur, in cap heights."""
    MOTION_PROBABILITY: Probability
    """Share of scenes with motion blur."""
    MOTION: ProbabilityRange
    """Length of the motion, in cap heights."""
    CLEAN_PROBABILITY: Probability
    """Share of scenes without resampling, noise and JPEG."""
    RESAMPLE_PROBABILITY: Probability
    """Share of scenes that were shrunk and enlarged again."""
    NOISE: ProbabilityRange
    """Weight of noise."""
    JPEG_PROBABILITY: Probability
    """Share of scenes that went through JPEG."""
    JPEG_QUALITY: Quality
    """Of JPEG."""


class SceneParams(_Section):
    """How a scene is composed. Lengths are pixels of a 250-pixel scene unless said otherwise."""

    BACKGROUND_ROTATION: Annotated[Number, Field(ge=0, le=180)]
    """The background is turned by up to this many degrees either way."""
    BACKGROUND_CROP: Annotated[
        list[Annotated[Integer, Field(ge=4, le=32)]],
        Field(min_length=2, max_length=2),
        AfterValidator(_ordered),
    ]
    """Side of the crop of the 32x32 background, in its own pixels."""
    BACKGROUND_PERSPECTIVE_PROBABILITY: Probability
    """Share of backgrounds seen in perspective."""
    BACKGROUND_PERSPECTIVE: Annotated[Number, Field(ge=0, le=0.9)]
    """Change of scale from the background's middle to its edge, at most."""
    STRUCTURE_WEIGHT: Annotated[
        list[Probability], Field(min_length=2, max_length=2), AfterValidator(_ordered)
    ]
    """Share of sharp structure in a background that has some."""
    CLUTTER_PROBABILITY: Probability
    """Share of scenes with grey circles and rectangles under the plate."""
    CLUTTER_CIRCLES: Annotated[Integer, Field(ge=0, le=64)]
    """Most circles in a scene."""
    CLUTTER_CIRCLE_RADIUS: Annotated[Integer, Field(ge=1, le=125)]
    """Largest radius."""
    CLUTTER_RECTANGLES: Annotated[Integer, Field(ge=0, le=64)]
    """Most rectangles in a scene."""
    CLUTTER_RECTANGLE_SIDE: Annotated[Integer, Field(ge=1, le=250)]
    """Longest side of a rectangle."""
    PLATE_SCALE: PositiveRange
    """Scale of the plate; at 1 its long side is 235 pixels of 250."""
    PLATE_STRETCH: PositiveRange
    """Factor on the plate's height alone."""
    PLATE_ROTATION: Annotated[Number, Field(ge=0, le=180)]
    """The plate is turned by up to this many degrees either way."""
    PLATE_SHEAR: Annotated[Number, Field(ge=0, le=60)]
    """Horizontal, then vertical shear of up to this many degrees either way."""
    PLATE_PERSPECTIVE: Annotated[Number, Field(ge=0, le=0.5)]
    """Change of scale from the plate's middle to its edge, by perspective, at most."""
    PLATE_SHIFT: Probability
    """The plate is shifted by up to this share of the free space beside it."""
    ALIASED_PROBABILITY: Probability
    """Share of plates pasted by the nearest pixel, edge and print aliased, as the seed pastes all."""


class DegradeParams(_Section):
    """Ranges of the functions of src/generators/degrade.py, by their names."""

    NOISE_BLUR: Annotated[
        list[Annotated[Integer, Field(ge=1, le=63), AfterValidator(_odd)]],
        Field(min_length=2, max_length=2),
        AfterValidator(_ordered),
    ]
    """Side of the box that blurs uniform noise, in pixels of a 250-pixel scene."""
    NOISE_WEIGHT: Annotated[
        list[Probability], Field(min_length=2, max_length=2), AfterValidator(_ordered)
    ]
    """Share of the noise in the picture."""
    SHARPNESS: Annotated[list[Weight], Field(min_length=2, max_length=2), AfterValidator(_ordered)]
    """Factor of sharpening: 0 is smooth, 1 unchanged."""
    BRIGHTNESS: PositiveRange
    """Factor on the grey values."""
    BLUR_SIGMA: PositiveRange
    """Standard deviation of the Gaussian blur, in pixels of the picture as it is stored."""
    AUTOCONTRAST_PROBABILITY: Probability
    """Share of pictures stretched to the full range of grey."""


class LocalizeParams(_Section):
    IMG_SHAPE: GreyShape
    """Shape of a localizer's input: [1, height, width]."""

    @model_validator(mode="after")
    def _square_scene(self) -> LocalizeParams:
        if self.IMG_SHAPE[1] != self.IMG_SHAPE[2] or not 32 <= self.IMG_SHAPE[1] <= 512:
            raise ValueError("IMG_SHAPE must be [1, side, side] with a side of 32 to 512")
        return self


class _Prepare(_Section):
    SEED: Seed
    """Sample i depends on the seed and i alone."""
    MAX_IMAGES: Annotated[Integer, Field(ge=10)]
    """Samples in all; at least 10."""
    STRUCTURE_PROBABILITY: Probability
    """Share of scenes whose background gets sharp structure (edges, grilles, text, panels)."""


class _PrepareTraining(_Prepare):
    TRAIN_SPLIT: Annotated[Number, Field(gt=0, lt=1)]
    """Share of the samples that train; the others validate."""
    STREET_SHARE: Probability
    """Share of street scenes; the others are the seed's."""
    STREET_WIDTH: PositiveRange
    """Width of the plates of street scenes, as a share of the scene."""


class PrepareLocalizeParams(_PrepareTraining):
    """The localizer's sets."""


class PrepareOCRParams(_PrepareTraining):
    IMG_SIZE: SceneSize
    """Size of the scene that the crop is taken from."""
    MARGIN: Annotated[Number, Field(ge=0.05, le=1)]
    """Margin of the crop around the plate's box, as a share of the box's sides."""


class PrepareStackParams(_Prepare):
    IMG_SIZE: SceneSize
    """Size of the seed's scenes."""
    STREET_SIZE: SceneSize
    """Size of street scenes."""
    STREET_WIDTH: PositiveRange
    """Width of the plates of street scenes, as a share of the scene."""


class PrepareFeedbackParams(_Section):
    SEED: Seed
    """Of the windows."""
    WINDOWS: Count
    """Windows of each plate for the localizer."""
    NEGATIVES: Annotated[Integer, Field(ge=0)]
    """Windows of each picture where there is no plate."""


class LocalizeModelParams(_Section):
    PLATE_NET_CHANNELS: Channels
    """plate_net: channels of its eight convolutions."""
    CONV_LAYERS: Layers
    """plate_localizer_v3: channels of each 3x3 convolution; a 0 is a 2x2 max pooling."""
    AVGPOOL_SIZE: Size
    """plate_localizer_v3: adaptive average pooling before the hidden layers."""
    HIDDEN_LAYERS: Annotated[list[Count], Field(min_length=1)]
    """plate_localizer_v3: widths of the hidden layers."""
    DROPOUT: Annotated[Number, Field(ge=0, lt=1)]
    """plate_localizer_v3: dropout after each hidden layer."""


class OCRParams(_Section):
    IMG_SHAPE: GreyShape
    """Shape of plate_ocr_v2's input: [1, height, width]."""
    MAX_LABEL_LENGTH: Integer
    """Longest text in classes: one canton and seven digits."""
    GRU_NUM_CLASSES: Integer
    """Classes with the blank; the charset's."""
    GRU_BLANK_CLASS: Integer
    """The blank; the charset's."""

    @model_validator(mode="after")
    def _charset(self) -> OCRParams:
        wanted = {
            "MAX_LABEL_LENGTH": CHARSET.max_length,
            "GRU_NUM_CLASSES": CHARSET.num_classes,
            "GRU_BLANK_CLASS": CHARSET.blank,
        }
        for name, value in wanted.items():
            if getattr(self, name) != value:
                raise ValueError(f"{name} is fixed by src/core/charset.py: it must be {value}")
        return self


class OCRModelParams(_Section):
    CRNN_IMG_SHAPE: GreyShape
    """crnn: shape of its input, [1, height, width]."""
    CRNN_CHANNELS: Channels
    """crnn: channels of its eight convolutions."""
    CRNN_HIDDEN_SIZE: Count
    """crnn: width of its LSTM, each direction."""
    CRNN_NUM_LAYERS: Count
    """crnn: layers of its LSTM."""
    CRNN_DROPOUT: Annotated[Number, Field(ge=0, lt=1)]
    """crnn: dropout between and after the LSTM's layers."""
    CONV_LAYERS: Layers
    """plate_ocr_v2: channels of each 3x3 convolution; a 0 is a 2x2 max pooling."""
    GRU_AVGPOOL_SIZE: Size
    """plate_ocr_v2: adaptive average pooling before the GRU: [features a step, steps]."""
    GRU_HIDDEN_SIZE: Count
    """plate_ocr_v2: width of its GRU, each direction."""
    GRU_NUM_LAYERS: Count
    """plate_ocr_v2: layers of its GRU."""
    GRU_DROPOUT: Annotated[Number, Field(ge=0, lt=1)]
    """plate_ocr_v2: dropout between the GRU's layers."""


class _Train(_Section):
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


class _Finetune(_Section):
    LR: Annotated[Number, Field(gt=0, le=1)]
    """Highest learning rate of AdamW; what else is learnt by is the training's."""
    STEPS: Count
    """Batches, about; in each sixth of them all feedback is passed at least once."""
    FEEDBACK_SHARE: Annotated[Number, Field(gt=0, lt=1)]
    """Share of the samples that are feedback; the others are of the synthetic set, so that nothing of it
    is forgotten."""
    KEPT: Probability
    """Share of the trained weights in the mean of these and the fine-tuned ones, which is what is used."""


class FinetuneLocalizeParams(_Finetune):
    pass


class FinetuneOCRParams(_Finetune):
    pass


class _Evaluate(_Section):
    SEED: Seed
    """Of the choice of pictures that are shown."""


class EvaluateLocalizeParams(_Evaluate):
    pass


class EvaluateOCRParams(_Evaluate):
    pass


class EvaluateStackParams(_Evaluate):
    pass


ThresholdAndLimit = Annotated[list[Weight], Field(min_length=2, max_length=2)]


def _rising(values: list[float]) -> list[float]:
    if sorted(set(values)) != values:
        raise ValueError("edges of cells rise from one to the next")
    return values


Edges = Annotated[list[Weight], Field(min_length=2), AfterValidator(_rising)]


class QualityParams(_Section):
    """When samples are flagged (the first of two numbers), and beyond which share of them a check fails
    (the second). All scores rise with what is wrong; src/quality says how each is made.
    """

    SEED: Seed
    """Of what is drawn: samples of large sets, clusters, folds."""
    SAMPLES: Annotated[Integer, Field(ge=10)]
    """Samples of each set that pictures and networks are looked at of."""
    STACK_SAMPLES: Annotated[Integer, Field(ge=10)]
    """Likewise of each of the stack's sets, whose pictures are larger."""
    CORNERS: ThresholdAndLimit
    """Distance of the corners' upright box from the given one, as a share of its longer side."""
    NEAR_DUPLICATES: ThresholdAndLimit
    """Correlation with another picture of the set."""
    LEAKED_NEARLY: ThresholdAndLimit
    """Correlation with a picture of a set that it must share none with."""
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
    """How little a picture changes when it is blurred, from 0 (sharp) to 1."""
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
    HOLES: Annotated[Integer, Field(ge=0)]
    """Cells that may be holes."""
    CLUSTERS: Annotated[Integer, Field(ge=2, le=256)]
    """Clusters of the network's features."""
    UNLIKE_ALL: Positive
    """Distance from all clusters beyond which a sample is flagged, 1 being that of 99 % of them."""
    LACKING_CLUSTERS: Annotated[Integer, Field(ge=0)]
    """Clusters that a set may lack beside the one that it is compared with."""
    DOUBT: Probability
    """One less the mean confidence over the passes, beyond which a sample is flagged."""
    DOUBT_SAMPLES: Count
    """Samples that are looked at in several passes."""
    PASSES: Annotated[Integer, Field(ge=2, le=100)]
    """Passes with dropout, or with the picture moved a little."""
    CALIBRATION_ERROR: Probability
    """Largest expected calibration error."""
    SHIFT: ThresholdAndLimit
    """Chance that a sample is told from the other set; the second number is the largest area under the
    ROC curve, 0.5 being that of sets of one kind."""


class BackgroundsConfig(_Section):
    source: Literal["auto", "cifar10", "procedural"]
    """Where backgrounds come from; auto prefers CIFAR-10."""
    cifar10_root: str
    """Folder that holds cifar-10-batches-py; CIFAR10_ROOT in the environment goes before it."""


class ModelsConfig(_Section):
    # The names are those of src/models/registry.py: here too, so that a wrong one is an error before
    # the sets are prepared and not after.
    localizer: Literal["plate_net", "plate_localizer_v3"]
    """Network that finds plates."""
    reader: Literal["crnn", "plate_ocr_v2"]
    """Network that reads plates."""


class TrainerConfig(_Section):
    accelerator: Literal["auto", "cpu", "cuda"]
    """Hardware to train on."""
    devices: Count
    """Processes on each node."""
    num_nodes: Count
    """Nodes."""
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
    """auto: bf16-mixed where a few steps of the training are faster in it by a tenth, else 32-true."""


class Config(_Section):
    """All parameters: those of params.py by class, those of params.yaml by section."""

    MULTIPROCESSING: Annotated[bool, Field(strict=True)]
    """Whether prepare_* uses all cores."""
    BATCH_SIZE: Annotated[Count, Field(le=65536)]
    """Samples in a batch of training."""
    PlateParams: PlateParams
    StreetPlateParams: StreetPlateParams
    StreetParams: StreetParams
    SceneParams: SceneParams
    DegradeParams: DegradeParams
    LocalizeParams: LocalizeParams
    PrepareLocalizeParams: PrepareLocalizeParams
    LocalizeModelParams: LocalizeModelParams
    TrainLocalizeParams: TrainLocalizeParams
    EvaluateLocalizeParams: EvaluateLocalizeParams
    FinetuneLocalizeParams: FinetuneLocalizeParams
    OCRParams: OCRParams
    PrepareOCRParams: PrepareOCRParams
    OCRModelParams: OCRModelParams
    TrainOCRParams: TrainOCRParams
    FinetuneOCRParams: FinetuneOCRParams
    EvaluateOCRParams: EvaluateOCRParams
    PrepareStackParams: PrepareStackParams
    EvaluateStackParams: EvaluateStackParams
    PrepareFeedbackParams: PrepareFeedbackParams
    QualityParams: QualityParams

    src_path: str
    out_path: str
    dataset_path: str
    prepared_data_path: str
    feedback_path: str
    backgrounds: BackgroundsConfig
    models: ModelsConfig
    tracker: Literal["none", "wandb"]
    """Where metrics of training go beside DVCLive and TensorBoard."""
    trainer: TrainerConfig

    @property
    def backgrounds_folder(self) -> Path:
        """Folder that fetch_backgrounds writes."""
        return Path(self.dataset_path) / "backgrounds"

    def prepared(self, task: str) -> Path:
        """Folder of the prepared sets of ``localize``, ``ocr``, ``stack`` or ``feedback``."""
        return Path(self.prepared_data_path) / task

    def out(self, kind: str, task: str) -> Path:
        """Folder of a task's outputs: ``prepared``, ``runs``, ``checkpoints``, ``models``."""
        return Path(self.out_path) / kind / task


def _read_params(path: Path) -> dict[str, Any]:
    """The assignments of params.py, read as DVC reads them: as literals, without running the file."""
    body = ast.parse(path.read_text(encoding="utf-8"), filename=str(path)).body
    return _read_assignments(body, path.name, "")


def _read_assignments(body: list[ast.stmt], file: str, prefix: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for node in body:
        if isinstance(node, ast.ClassDef):
            values[node.name] = _read_assignments(node.body, file, f"{prefix}{node.name}.")
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            try:
                values[node.target.id] = ast.literal_eval(node.value)
            except ValueError as error:
                raise ConfigError(
                    f"{file}: {prefix}{node.target.id}: a number, True, False or a list of numbers "
                    f"is wanted (is {ast.unparse(node.value)})"
                ) from error
        elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            raise ConfigError(
                f"{file}: line {node.lineno}: only `NAME: type = value` and classes of such lines "
                f"are allowed (is {ast.unparse(node)})"
            )
    return values


def load_config(folder: Path = Path()) -> Config:
    """Read and check params.py and params.yaml.

    Args:
        folder: where both lie; by default the current folder, as DVC runs stages in the root.

    Raises:
        ConfigError: a file is missing or cannot be parsed, or a parameter is unknown, missing, of
            the wrong type or out of its range.
    """
    python, strings = folder / PARAMS_FILE, folder / PATHS_FILE
    try:
        values = _read_params(python)
    except (OSError, SyntaxError) as error:
        raise ConfigError(f"{python}: cannot be read: {error}") from error
    try:
        texts = yaml.safe_load(strings.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{strings}: cannot be read: {error}") from error
    if not isinstance(texts, dict):
        raise ConfigError(f"{strings}: expected a mapping of parameters")
    if both := sorted(set(texts) & set(values)):
        raise ConfigError(f"{strings}: {', '.join(both)}: set in {python} already; remove it here")
    try:
        return Config(**{**texts, **values})
    except ValidationError as error:
        raise ConfigError(_explain(error, python, set(texts) - set(values))) from error


def _explain(error: ValidationError, python: Path, texts: set[str]) -> str:
    lines = []
    for item in error.errors():
        place = [str(part) for part in item["loc"]]
        file = PATHS_FILE if place and place[0] in texts else python.name
        what = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            known = _known_names(place[:-1])
            what = f"unknown parameter; known here: {', '.join(known)}"
        elif item["type"] == "missing":
            what = "missing parameter"
        else:
            what = f"{what} (is {item['input']!r})"
        lines.append(f"{file}: {'.'.join(place)}: {what}")
    return "\n".join(lines)


def _known_names(place: list[str]) -> list[str]:
    section: type[BaseModel] = Config
    for name in place:
        section = section.model_fields[name].annotation  # type: ignore[assignment]  # nested section
    return list(section.model_fields)
