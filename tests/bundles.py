"""Bundles of networks that know what to say, and images that tell them.

A plate is a rim around an even grey. The localizer sees one white rim in an image, the whiter the
surer, and one black rim, and says two lines where it is high. The reader sees the grey: each ``STEP``
of it is another text, the last of which are not sure.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from src.core.charset import CHARSET
from src.inference import bundle
from src.inference.calibration import reader_calibration
from src.inference.colour import CLASSES, ColourModel
from src.inference.colour import FEATURES as COLOUR_FEATURES

FIRST_GREY, STEP = 40, 8
TEXTS = ("ZH123456", "BE1", "GE65432", "TI1234567", "VD777", "AG10", "JU4", "UR98765")
UNSURE = 4
"""From this text on, the reader gives its texts a low probability."""
WHITE, BLACK = 255, 0
DARKEST_WHITE, LIGHTEST_BLACK = 224, 12
"""Pixels between these are no rim."""
BLACK_SCORE = 1 / (1 + math.exp(-3))


def white_score(rim: int) -> float:
    """The localizer's probability of a plate with a white rim."""
    return 1 / (1 + math.exp(-(rim - 230) / 3))


_HEAD = '<ir_version: 8, opset_import: ["" : 18]>'

# What either rim says; S is which.
_SIDE = """
  only_S = Where (rim_S, chance, never)
  logit_S = ReduceMax <keepdims = 1> (only_S, sides)
  xs_S = Where (rim_S, x, far)
  left_S = ReduceMin <keepdims = 1> (xs_S, sides)
  xe_S = Where (rim_S, x, near)
  last_x_S = ReduceMax <keepdims = 1> (xe_S, sides)
  right_S = Add (last_x_S, one)
  ys_S = Where (rim_S, y, far)
  top_S = ReduceMin <keepdims = 1> (ys_S, sides)
  ye_S = Where (rim_S, y, near)
  last_y_S = ReduceMax <keepdims = 1> (ye_S, sides)
  bottom_S = Add (last_y_S, one)
  width_S = Sub (right_S, left_S)
  height_S = Sub (bottom_S, top_S)
  least_S = Mul (height_S, long)
  is_high_S = Less (width_S, least_S)
  lines_S = Where (is_high_S, six, minus_six)
  twice_x_S = Add (left_S, right_S)
  centre_x_S = Mul (twice_x_S, half)
  twice_y_S = Add (top_S, bottom_S)
  centre_y_S = Mul (twice_y_S, half)
  off_x_S = Sub (places_x, centre_x_S)
  far_x_S = Abs (off_x_S)
  near_x_S = LessOrEqual (far_x_S, four)
  off_y_S = Sub (places_y, centre_y_S)
  far_y_S = Abs (off_y_S)
  near_y_S = LessOrEqual (far_y_S, four)
  here_S = And (near_x_S, near_y_S)
  score_S = Where (here_S, logit_S, never)
  rest_S = Concat <axis = 1> (lines_S, left_S, top_S, right_S, top_S, right_S, bottom_S, left_S, bottom_S)
  grown_S = Expand (rest_S, maps_shape)
  maps_S = Concat <axis = 1> (score_S, grown_S)
"""
_CONSTANTS = {"one": 1.0, "half": 0.5, "far": 1e6, "near": -1e6, "middle": 230.0,
              "step": 3.0, "long": 2.5, "six": 6.0, "minus_six": -6.0, "four": 4.0, "never": -9.0,
              "three": 3.0, "white": DARKEST_WHITE, "black": LIGHTEST_BLACK}  # fmt: skip
_LOCALIZER = """
localizer (uint8[N,H,W] images) => (float[N,M,h,w] maps) {
CONSTANTS
  sides = Constant <value_ints = [2, 3]> ()
  channel = Constant <value_ints = [1]> ()
  number_0 = Constant <value_int = 0> ()
  number_1 = Constant <value_int = 1> ()
  number_8 = Constant <value_int = 8> ()
  whole = Unsqueeze (images, channel)
  pixels = Cast <to = 1> (whole)
  shape = Shape (pixels)
  index_2 = Constant <value_int = 2> ()
  index_3 = Constant <value_int = 3> ()
  height = Gather (shape, index_2)
  width = Gather (shape, index_3)
  rows = Range (number_0, height, number_1)
  columns = Range (number_0, width, number_1)
  column_shape = Constant <value_ints = [1, 1, -1, 1]> ()
  rows_up = Reshape (rows, column_shape)
  y = Cast <to = 1> (rows_up)
  x = Cast <to = 1> (columns)
  place_rows = Range (number_0, height, number_8)
  place_columns = Range (number_0, width, number_8)
  place_rows_up = Reshape (place_rows, column_shape)
  places_y = Cast <to = 1> (place_rows_up)
  places_x = Cast <to = 1> (place_columns)
  batch_start = Constant <value_ints = [0]> ()
  batch_end = Constant <value_ints = [1]> ()
  batch = Slice (shape, batch_start, batch_end)
  nine = Constant <value_ints = [9]> ()
  grid_y = Shape <start = 2, end = 3> (places_y)
  grid_x = Shape (places_x)
  maps_shape = Concat <axis = 0> (batch, nine, grid_y, grid_x)
  rim_w = GreaterOrEqual (pixels, white)
  rim_b = LessOrEqual (pixels, black)
  over = Sub (pixels, middle)
  whiteness = Div (over, step)
  chance = Where (rim_b, three, whiteness)
SIDES
  second = Greater (score_b, score_w)
  maps = Where (second, maps_b, maps_w)
}
"""
_READER = """
reader (uint8[N,h,w] images) => (float[N,T,C] log_probs) {
  starts = Constant <value_ints = [12, 72]> ()
  ends = Constant <value_ints = [20, 108]> ()
  axes = Constant <value_ints = [1, 2]> ()
  middle = Slice (images, starts, ends, axes)
  pixels = Cast <to = 1> (middle)
  grey = ReduceMean <keepdims = 0> (pixels, axes)
  step = Constant <value_float = STEP> ()
  first = Constant <value_float = FIRST> ()
  above = Sub (grey, first)
  steps = Div (above, step)
  whole = Floor (steps)
  low = Constant <value_float = 0.0> ()
  high = Constant <value_float = LAST> ()
  number = Clip (whole, low, high)
  index = Cast <to = 7> (number)
  log_probs = Gather (table, index)
}
"""


def localizer() -> onnx.ModelProto:
    """``images`` (N, H, W) to ``maps`` (N, 10, H / 8, W / 8)."""
    constants = "\n".join(
        f"  {name} = Constant <value_float = {float(value)}> ()"
        for name, value in _CONSTANTS.items()
    )
    sides = "".join(_SIDE.replace("_S", f"_{side}") for side in "wb")
    text = _LOCALIZER.replace("CONSTANTS", constants).replace("SIDES", sides)
    return onnx.parser.parse_model(_HEAD + text)


def reader() -> onnx.ModelProto:
    """``images`` (N, 32, 128) to ``log_probs`` (N, 32, 37)."""
    logits = np.zeros((len(TEXTS), 32, CHARSET.num_classes), np.float32)
    logits[:, :, CHARSET.blank] = 12.0
    for number, text in enumerate(TEXTS):
        for position, index in enumerate(CHARSET.encode(text)):
            logits[number, 1 + 3 * position] = 0.0
            logits[number, 1 + 3 * position, index] = 5.0 if number >= UNSURE else 20.0
    table = logits - np.log(np.exp(logits.astype(np.float64)).sum(axis=2, keepdims=True))
    text = _READER.replace("STEP", f"{STEP}.0").replace("FIRST", f"{FIRST_GREY}.0")
    text = text.replace("LAST", f"{len(TEXTS) - 1}.0")
    model = onnx.parser.parse_model(_HEAD + text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(table.astype(np.float32), "table"))
    return model


def draw_plate(
    image: NDArray[np.uint8],
    text: str,
    box: tuple[int, int, int, int],
    rim: int = WHITE,
) -> NDArray[np.uint8]:
    """Draw a plate into an image: x1, y1, x2, y2, edges at whole pixels."""
    x1, y1, x2, y2 = box
    grey = FIRST_GREY + TEXTS.index(text) * STEP + STEP // 2
    cv2.rectangle(image, (x1, y1), (x2 - 1, y2 - 1), rim, -1)
    # In a large image so thick that it is still there at a quarter of the size.
    edge = max(2, (y2 - y1) // 12, max(image.shape) // 500)
    cv2.rectangle(image, (x1 + edge, y1 + edge), (x2 - 1 - edge, y2 - 1 - edge), grey, -1)
    return image


def scene(
    text: str = TEXTS[0],
    box: tuple[int, int, int, int] = (60, 100, 180, 132),
    size: tuple[int, int] = (256, 256),
    rim: int = WHITE,
) -> NDArray[np.uint8]:
    """A grey image ``(H, W)`` with one plate."""
    return draw_plate(np.full(size, 120, np.uint8), text, box, rim)


def always(colour: str) -> ColourModel:
    """A model that takes all plates for one colour, with a probability of 0.9."""
    odds = np.full(len(CLASSES), 0.1 / (len(CLASSES) - 1))
    odds[CLASSES.index(colour)] = 0.9
    return ColourModel(np.zeros((len(CLASSES), COLOUR_FEATURES)), np.log(odds))


def write_bundle(folder: Path, threshold: float = 0.5, int8: bool = False, **changes: Any) -> Path:
    """A bundle of both; ``changes`` replace entries of its manifest.

    The int8 ones are the same networks, to which nothing is left to be quantized.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, model in ((bundle.LOCALIZER, localizer()), (bundle.RECOGNIZER, reader())):
        (folder / name).write_bytes(model.SerializeToString())
        if int8:
            model.doc_string = "int8"
            (folder / bundle.INT8[name]).write_bytes(model.SerializeToString())
    return write_manifest(folder, threshold, **changes)


def write_manifest(folder: Path, threshold: float = 0.5, **changes: Any) -> Path:
    """The manifest of a folder that has both networks, or all four."""
    values = {
        "created": "2024-01-01T00:00:00+00:00",
        "git_revision": None,
        "dvc_lock": None,
        "hardware": {},
        "files": {
            path.name: bundle.file_entry(path.read_bytes()) for path in folder.glob("*.onnx")
        },
        "charset": bundle.charset_entry(),
        "localizer": {
            "name": "stand-in", "input_shape": (1, 84, 84), "dense": True, "stride": 8,
            "parameters": 0,
        },
        "recognizer": {
            "name": "stand-in", "input_shape": (1, 32, 128), "rectification": "corners",
            "margin": 0.06, "parameters": 0,
        },
        "calibration": reader_calibration(0, 0, "stand-in").to_dict(),
        "threshold": threshold,
        "metrics": {},
    }  # fmt: skip
    manifest = msgspec.convert(msgspec.to_builtins(values | changes), bundle.Manifest)
    (folder / bundle.MANIFEST).write_text(bundle.manifest_text(manifest), encoding="utf-8")
    return folder
