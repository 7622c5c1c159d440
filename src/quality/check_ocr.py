"""Stage check_ocr: check the recognizer's sets with the recognizer trained on one of them.

Writes the same files as check_localize, to out/quality/ocr.

python -m src.quality.check_ocr
"""

from __future__ import annotations

from ..config import Config
from ..config.stage import run_stage
from ..models.registry import load_recognizer
from .networks import torch_recognizer
from .suite import check_training


def main(config: Config) -> None:
    """Check the recognizer's sets and write the results to out/quality/ocr."""
    reader = load_recognizer(config.out("models", "ocr") / "model.safetensors")
    check_training("ocr", torch_recognizer(reader), config)


if __name__ == "__main__":
    run_stage(main)
