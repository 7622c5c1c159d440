"""How long the stages will take, told before they start.

A stage takes some seconds to start, and some time for each sample. Both were measured on two cores; more
cores are faster where a stage uses them, and a GPU trains faster than is told here.
"""

from __future__ import annotations

from src.config import Config
from src.core.machine import available_cores

MEASURED_CORES = 2
"""Of an AMD EPYC with AVX512-BF16 and without AMX; the figures below are of its `make run`."""
START = {
    "fetch_backgrounds": 7.0, "prepare": 3.0, "train": 12.0, "evaluate": 8.0, "check": 10.0,
    "export_stack": 30.0, "evaluate_stack": 30.0, "none": 1.5,
}  # fmt: skip
"""Seconds to import what a kind of stage needs, to do what does not depend on the number of samples, and to
let DVC take in what was written."""
DRAWN = {"localize": 2300.0, "ocr": 1900.0, "stack": 50.0}
"""Samples a second that are drawn by both cores; of stack those of ``val``, with its other sets."""
TRAINED = {"localize": 590.0, "ocr": 540.0}
"""Samples a second that are trained on; validation is in it."""
EVALUATED = {"localize": 1600.0, "ocr": 1600.0, "stack": 25.0}
"""Samples a second that are read and measured."""
CHECKED = {"localize": 400.0, "ocr": 400.0, "stack": 30.0}
"""Samples a second that the quality checks look at."""


def estimate(config: Config) -> dict[str, float]:
    """Return seconds by stage of a run in which every stage runs and nothing is fine-tuned."""
    cores = available_cores() / MEASURED_CORES
    drawing = cores if config.MULTIPROCESSING else 1 / MEASURED_CORES
    seconds = {"fetch_backgrounds": START["fetch_backgrounds"]}
    for task, prepare, train in (
        ("localize", config.PrepareLocalizeParams, config.TrainLocalizeParams),
        ("ocr", config.PrepareOCRParams, config.TrainOCRParams),
    ):
        count, trained = prepare.MAX_IMAGES, prepare.MAX_IMAGES * prepare.TRAIN_SPLIT
        seconds |= {
            f"prepare_{task}": START["prepare"] + count / DRAWN[task] / drawing,
            f"train_{task}": START["train"] + trained * train.EPOCHS / TRAINED[task] / cores,
            f"evaluate_{task}": START["evaluate"] + (count - trained) / EVALUATED[task] / cores,
            f"check_{task}": START["check"] + config.QualityParams.SAMPLES / CHECKED[task],
            f"finetune_{task}": START["none"],
        }
    stack = config.PrepareStackParams.MAX_IMAGES
    return seconds | {
        "prepare_feedback": START["none"],
        "prepare_stack": START["prepare"] + stack / DRAWN["stack"] / drawing,
        "export_stack": START["export_stack"] + stack / EVALUATED["stack"] / cores,
        "evaluate_stack": START["evaluate_stack"] + stack / EVALUATED["stack"] / cores,
        "check_stack": START["check"] + config.QualityParams.STACK_SAMPLES / CHECKED["stack"],
    }
