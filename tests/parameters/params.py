"""Parameters of the pipeline's stages: numbers, booleans and lists of numbers only.

``dvc exp run -S params.py:Class.NAME=value`` edits the text of this file, and it finds a value only
if it is spelled canonically (``0.001``, not ``1e-3``; no ``100_000``, no strings, no tuples). Strings
and paths are in params.yaml. src/config documents the meaning and the allowed values of each parameter
and validates all of them.
"""

MULTIPROCESSING: bool = True
BATCH_SIZE: int = 64


class PlateParams:
    FORMAT_WEIGHTS: list = [0.0, 0.5, 0.5, 0.0, 0.0, 0.0]
    COLOUR_WEIGHTS: list = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    DIGIT_WEIGHTS: list = [0.05, 0.05, 0.05, 0.15, 0.2, 0.5, 0.0]
    FAMILY_WEIGHTS: list = [0.8, 0.2, 0.0]
    GLYPH_VARIANTS: int = 32
    GLYPH_WIDTH: list = [0.94, 1.06]
    GLYPH_STROKE: list = [0.115, 0.145]
    SPACING: list = [0.95, 1.05]
    SHIELD_HEIGHT: list = [0.92, 1.08]
    GROUP_GAP_PROBABILITY: float = 0.2
    FOOT_PROBABILITY: float = 0.7
    ALTERNATE_PROBABILITY: float = 0.1
    GLYPH_WARP: float = 0.2
    FONT_PROBABILITY: float = 0.0
    GROUND: list = [0.92, 1.0]
    FRAME_PROBABILITY: float = 0.0
    SCREW_PROBABILITY: float = 0.0
    EDGE_PROBABILITY: float = 0.5


class StreetPlateParams:
    FORMAT_WEIGHTS: list = [0.28, 0.06, 0.22, 0.27, 0.1, 0.07]
    COLOUR_WEIGHTS: list = [0.82, 0.04, 0.03, 0.03, 0.03, 0.03, 0.02]
    DIGIT_WEIGHTS: list = [0.07, 0.08, 0.1, 0.13, 0.22, 0.37, 0.03]
    FAMILY_WEIGHTS: list = [0.65, 0.35, 0.0]
    GLYPH_VARIANTS: int = 256
    GLYPH_WIDTH: list = [0.8, 1.25]
    GLYPH_STROKE: list = [0.105, 0.16]
    SPACING: list = [0.85, 1.4]
    SHIELD_HEIGHT: list = [0.8, 1.15]
    GROUP_GAP_PROBABILITY: float = 0.6
    FOOT_PROBABILITY: float = 0.5
    ALTERNATE_PROBABILITY: float = 0.45
    GLYPH_WARP: float = 1.0
    FONT_PROBABILITY: float = 0.2
    GROUND: list = [0.8, 1.0]
    FRAME_PROBABILITY: float = 0.5
    SCREW_PROBABILITY: float = 0.3
    EDGE_PROBABILITY: float = 0.2


class StreetParams:
    KIND_WEIGHTS: list = [0.58, 0.2, 0.07, 0.15]
    YAW: float = 45.0
    PITCH: list = [-25.0, 35.0]
    ROLL: float = 12.0
    DISTANCE: list = [1.5, 8.0]
    SUFFIX_PROBABILITY: float = 0.03
    PROVISIONAL_PROBABILITY: float = 0.04
    DIPLOMATIC_PROBABILITY: float = 0.02
    NO_RIM_PROBABILITY: float = 0.12
    EMBOSS: list = [0.0, 0.6]
    MOSAIC_PROBABILITY: float = 0.4
    TEXTURE_PROBABILITY: float = 0.15
    OVERLAY_PROBABILITY: float = 0.25
    PLAIN_PROBABILITY: float = 0.05
    STATIC_PROBABILITY: float = 0.03
    FITTINGS_PROBABILITY: float = 0.25
    SURROUND_PROBABILITY: float = 0.75
    PANEL_PROBABILITY: float = 0.65
    PANEL_EDGE_PROBABILITY: float = 0.4
    STICKER_PROBABILITY: float = 0.12
    CUT_PROBABILITY: float = 0.2
    SHADOW_PROBABILITY: float = 0.25
    GLARE_PROBABILITY: float = 0.1
    DIRT_PROBABILITY: float = 0.15
    OCCLUSION_PROBABILITY: float = 0.06
    SHADE: list = [0.0, 0.5]
    CONTRAST: list = [0.3, 1.0]
    GAMMA: list = [0.6, 1.7]
    BLUR: list = [0.0, 0.09]
    MOTION_PROBABILITY: float = 0.15
    MOTION: list = [0.05, 0.25]
    CLEAN_PROBABILITY: float = 0.3
    RESAMPLE_PROBABILITY: float = 0.3
    SHARPEN_PROBABILITY: float = 0.3
    NOISE: list = [0.0, 0.15]
    JPEG_PROBABILITY: float = 0.6
    JPEG_QUALITY: list = [15, 95]
    BANDS_PROBABILITY: float = 0.4
    VIGNETTE_PROBABILITY: float = 0.5
    POSTERISE_PROBABILITY: float = 0.25
    RAIN_PROBABILITY: float = 0.3
    WEBP_PROBABILITY: float = 0.6


class SceneParams:
    BACKGROUND_ROTATION: float = 90.0
    BACKGROUND_CROP: list = [20, 31]
    BACKGROUND_PERSPECTIVE_PROBABILITY: float = 0.2
    BACKGROUND_PERSPECTIVE: float = 0.4
    STRUCTURE_WEIGHT: list = [0.3, 1.0]
    CLUTTER_PROBABILITY: float = 0.5
    CLUTTER_CIRCLES: int = 14
    CLUTTER_CIRCLE_RADIUS: int = 24
    CLUTTER_RECTANGLES: int = 4
    CLUTTER_RECTANGLE_SIDE: int = 49
    PLATE_SCALE: list = [0.3, 0.6]
    PLATE_STRETCH: list = [0.6, 1.4]
    PLATE_ROTATION: float = 20.0
    PLATE_SHEAR: float = 30.0
    PLATE_PERSPECTIVE: float = 0.1
    PLATE_SHIFT: float = 0.5
    ALIASED_PROBABILITY: float = 0.8


class DegradeParams:
    NOISE_BLUR: list = [1, 19]
    NOISE_WEIGHT: list = [0.0, 0.5]
    SHARPNESS: list = [0.0, 5.0]
    BRIGHTNESS: list = [0.5, 1.5]
    BLUR_SIGMA: list = [0.1, 0.8]
    AUTOCONTRAST_PROBABILITY: float = 0.5


class LocalizeParams:
    IMG_SHAPE: list = [1, 84, 84]


class PrepareLocalizeParams:
    SEED: int = 25032023
    MAX_IMAGES: int = 330000
    TRAIN_SPLIT: float = 0.92
    STRUCTURE_PROBABILITY: float = 0.25
    STREET_SHARE: float = 0.6
    STREET_WIDTH: list = [0.22, 1.05]
    OBSTACLE_SHARE: float = 0.2


class LocalizeModelParams:
    PLATE_NET_CHANNELS: list = [16, 32, 32, 64, 64, 96, 96, 96]
    CONV_LAYERS: list = [64, 0, 128, 0, 256, 0, 512, 0]
    AVGPOOL_SIZE: list = [5, 5]
    HIDDEN_LAYERS: list = [512, 512]
    DROPOUT: float = 0.4


class TrainLocalizeParams:
    SEED: int = 25032023
    LR: float = 0.005
    WEIGHT_DECAY: float = 0.01
    WARMUP: float = 0.1
    EMA_DECAY: float = 0.995
    EPOCHS: int = 3
    VALIDATE_EVERY: int = 2000
    PATIENCE: int = 5


class FinetuneLocalizeParams:
    LR: float = 0.0003
    STEPS: int = 3300
    FEEDBACK_SHARE: float = 0.1
    ORIGINAL_SHARE: float = 0.15


class EvaluateLocalizeParams:
    SEED: int = 25032023


class OCRParams:
    IMG_SHAPE: list = [1, 84, 84]
    MAX_LABEL_LENGTH: int = 8
    GRU_NUM_CLASSES: int = 37
    GRU_BLANK_CLASS: int = 36


class PrepareOCRParams:
    SEED: int = 25032023
    MAX_IMAGES: int = 300000
    TRAIN_SPLIT: float = 0.92
    IMG_SIZE: list = [256, 256]
    MARGIN: float = 0.25
    STRUCTURE_PROBABILITY: float = 0.25
    STREET_SHARE: float = 0.6
    STREET_WIDTH: list = [0.16, 0.95]
    OBSTACLE_SHARE: float = 0.4
    CUT_SHARE: float = 0.25
    NARROWEST: float = 0.65
    LOWEST: float = 0.88


class OCRModelParams:
    CRNN_IMG_SHAPE: list = [1, 32, 128]
    CRNN_CHANNELS: list = [32, 32, 64, 64, 96, 96, 128, 128]
    CRNN_HIDDEN_SIZE: int = 96
    CRNN_NUM_LAYERS: int = 1
    CRNN_DROPOUT: float = 0.1
    CONV_LAYERS: list = [64, 0, 128, 0, 256, 0, 256, 0]
    GRU_AVGPOOL_SIZE: list = [18, 18]
    GRU_HIDDEN_SIZE: int = 384
    GRU_NUM_LAYERS: int = 2
    GRU_DROPOUT: float = 0.5


class TrainOCRParams:
    SEED: int = 25032023
    LR: float = 0.003
    WEIGHT_DECAY: float = 0.01
    WARMUP: float = 0.1
    EMA_DECAY: float = 0.995
    EPOCHS: int = 4
    VALIDATE_EVERY: int = 2000
    PATIENCE: int = 5
    CORNER_JITTER: float = 1.3
    BOX_JITTER: float = 0.1
    BOX_SKEW: float = 2.5
    LINES_ERROR: float = 0.05
    SNAP_PROBABILITY: float = 0.5
    TONE_JITTER: float = 0.4
    BLUR_JITTER: float = 0.6


class FinetuneOCRParams:
    LR: float = 0.0005
    STEPS: int = 1500
    FEEDBACK_SHARE: float = 0.25
    ORIGINAL_SHARE: float = 0.4


class EvaluateOCRParams:
    SEED: int = 25032023


class PrepareStackParams:
    SEED: int = 25032024
    MAX_IMAGES: int = 5000
    IMG_SIZE: list = [256, 256]
    STRUCTURE_PROBABILITY: float = 0.0
    STREET_SIZE: list = [384, 384]
    STREET_WIDTH: list = [0.16, 0.95]
    OBSTACLE_SHARE: float = 0.3


class EvaluateStackParams:
    SEED: int = 25032023


class PrepareFeedbackParams:
    SEED: int = 25032023
    WINDOWS: int = 8
    NEGATIVES: int = 2


class QualityParams:
    SEED: int = 25032023
    SAMPLES: int = 1500
    STACK_SAMPLES: int = 400
    CORNERS: list = [0.1, 0.0]
    NEAR_DUPLICATES: list = [0.92, 0.01]
    LEAKED_NEARLY: list = [0.92, 0.002]
    WRONG_TEXT: list = [3.0, 0.01]
    WRONG_BOX: list = [1.4, 0.02]
    MISSED_PLATE: list = [0.9, 0.02]
    DARK: list = [0.68, 0.15]
    LIGHT: list = [0.95, 0.05]
    BLURRY: list = [0.6, 0.15]
    LOW_INFORMATION: list = [0.95, 0.1]
    ODD_SIZE: list = [0.5, 0.05]
    ODD_ASPECT_RATIO: list = [0.8, 0.05]
    HEIGHTS: list = [10.0, 20.0, 30.0, 40.0]
    LIGHTS: list = [0.2, 0.4, 0.6, 0.8]
    LEAST_SHARE: float = 0.25
    COVERAGE_GAPS: int = 0
    CLUSTERS: int = 32
    UNLIKE_ALL: float = 1.5
    LACKING_CLUSTERS: int = 0
    UNCERTAINTY: float = 0.5
    UNCERTAINTY_SAMPLES: int = 200
    PASSES: int = 6
    CALIBRATION_ERROR: float = 0.15
    SHIFT: list = [0.9, 0.7]
