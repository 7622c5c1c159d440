"""Stage check_localize: check the localizer's sets, with the localizer that was trained on one of them.

Writes out/quality/localize: metrics.json, tables for ``dvc plots``, flagged.csv and a report with pictures;
fails beyond the limits of QualityParams.

python -m src.quality.check_localize
"""

from __future__ import annotations

from src.config import Config
from src.models.registry import load_localizer
from src.quality.networks import torch_localizer
from src.quality.suite import check_training
from src.utils.stage import run_stage


def main(config: Config) -> None:
    """Write out/quality/localize."""
    localizer = load_localizer(config.out("models", "localize") / "model.safetensors")
    check_training("localize", torch_localizer(localizer), config)


if __name__ == "__main__":
    run_stage(main)
