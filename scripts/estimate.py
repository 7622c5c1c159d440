"""How long the stages will take, told before they start.

A stage takes some seconds to start, and some time for each sample. Both were measured on two cores; more
cores are faster where a stage uses them, and a GPU trains faster than is told here.
"""

from __future__ import annotations

from src.config import Config
from src.utils.machine import available_cores

MEASURED_CORES = 2
START = {"fetch_backgrounds": 8.0, "prepare": 8.0, "train": 14.0, "evaluate": 12.0, "check": 14.0,
         "export": 30.0, "none": 5.0}  # fmt: skip
"""Seconds to import what a kind of stage needs, and to let DVC take in what it wrote."""
DRAWN = {"localize": 700.0, "ocr": 600.0, "stack": 60.0}
"""Samples a second that are drawn by both cores."""
TRAINED = {"localize": 560.0, "ocr": 540.0}
"""Samples a second that are trained on; validation is in it."""
EVALUATED = {"localize": 400.0, "ocr": 700.0, "stack": 45.0}
"""Samples a second that are read and measured."""
CHECKED = {"localize": 12.0, "ocr": 12.0, "stack": 12.0}
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
        "export_stack": START["export"] + stack / EVALUATED["stack"] / cores,
        "evaluate_stack": START["evaluate"] + stack / EVALUATED["stack"] / cores,
        "check_stack": START["check"] + config.QualityParams.STACK_SAMPLES / CHECKED["stack"],
    }
