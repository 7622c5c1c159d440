"""Whether there is feedback to learn from, asked before anything that takes seconds to import."""

from __future__ import annotations

import json

from ..config import Config
from ..core.files import complete_folder


def has_feedback(config: Config, task: str) -> bool:
    """Whether there is something to learn; where not, that is said, and written in the model's place.

    Args:
        config: the parameters.
        task: ``localize`` or ``ocr``.
    """
    if count(config, task, "train"):
        return True
    text = json.dumps({"samples": 0}) + "\n"
    for kind, name in (("models", "finetuning.json"), ("runs", "metrics.json")):
        with complete_folder(config.out(kind, f"{task}_finetuned")) as folder:
            (folder / name).write_text(text, encoding="utf-8")
    print(f"{config.feedback_path}: no feedback yet; the model of {task} stays as it was trained.")
    return False


def count(config: Config, task: str, split: str) -> int:
    """Samples of a prepared set of feedback."""
    meta = config.prepared("feedback") / task / split / "meta.json"
    return int(json.loads(meta.read_text(encoding="utf-8"))["count"])
