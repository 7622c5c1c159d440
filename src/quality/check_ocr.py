"""Stage check_ocr: check the reader's sets, with the reader that was trained on one of them.

Writes out/quality/ocr, as check_localize does out/quality/localize.

python -m src.quality.check_ocr
"""

from __future__ import annotations

from src.config import Config
from src.models.registry import load_reader
from src.quality.networks import torch_reader
from src.quality.suite import check_training
from src.utils.stage import run_stage


def main(config: Config) -> None:
    """Write out/quality/ocr."""
    reader = load_reader(config.out("models", "ocr") / "model.safetensors")
    check_training("ocr", torch_reader(reader), config)


if __name__ == "__main__":
    run_stage(main)
