"""Check for feedback to learn from, before importing anything that takes seconds to load."""

from __future__ import annotations

import json

from ..config import Config
from ..core.files import complete_folder


def has_feedback(config: Config, task: str) -> bool:
    """Return whether there is feedback to fine-tune on.

    If there is none, this is printed, and placeholder files are written in place of the model and its
    metrics.

    Args:
        config: Parameters of the pipeline.
        task: Task of the model, ``localize`` or ``ocr``.
    """
    if count(config, task, "train"):
        return True
    text = json.dumps({"samples": 0}) + "\n"
    for kind, name in (("models", "finetuning.json"), ("runs", "metrics.json")):
        with complete_folder(config.out(kind, f"{task}_finetuned")) as folder:
            (folder / name).write_text(text, encoding="utf-8")
    print(f"{config.feedback_path}: no feedback yet; the {task} model stays as trained.")
    return False


def count(config: Config, task: str, split: str) -> int:
    """Return the number of samples in a prepared feedback set."""
    meta = config.prepared("feedback") / task / split / "meta.json"
    return int(json.loads(meta.read_text(encoding="utf-8"))["count"])
