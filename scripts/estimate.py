"""Estimate how long the stages will take before they start.

A stage takes some seconds to start, and some time per sample. Both were measured on two cores; more
cores are faster where a stage uses them, and a GPU trains faster than estimated here.
"""

from __future__ import annotations

from src.config import Config
from src.core.machine import available_cores

MEASURED_CORES = 2
"""Cores of an AMD EPYC with AVX512-BF16 and without AMX; `make run` on it gave the figures below."""
START = {
    "fetch_backgrounds": 7.0, "prepare": 3.0, "train": 12.0, "evaluate": 8.0, "check": 10.0,
    "export_stack": 30.0, "evaluate_stack": 30.0, "none": 1.5,
}  # fmt: skip
"""Seconds that a kind of stage takes regardless of the number of samples.

They include the imports and the time in which DVC records what was written.
"""
DRAWN = {"localize": 2300.0, "ocr": 1900.0, "stack": 20.0}
"""Samples drawn per second by both cores.

For ``stack``, only samples of ``val`` are counted; the time for its other sets is included.
"""
TRAINED = {"localize": 590.0, "ocr": 540.0}
"""Training samples per second; the time for validation is included."""
EVALUATED = {"localize": 1600.0, "ocr": 1600.0, "stack": 25.0}
"""Samples read and measured per second."""
CHECKED = {"localize": 400.0, "ocr": 400.0, "stack": 30.0}
"""Samples inspected per second by the quality checks."""


def estimate(config: Config) -> dict[str, float]:
    """Return the seconds of each stage in a run in which every stage runs and nothing is fine-tuned."""
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
