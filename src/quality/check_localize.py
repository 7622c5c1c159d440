"""Stage check_localize: check the localizer's sets with the localizer trained on one of them.

Writes metrics.json, tables for ``dvc plots``, flagged.csv and a report with images to
out/quality/localize. Fails if a limit of QualityParams is exceeded.

python -m src.quality.check_localize
"""

from __future__ import annotations

from ..config import Config
from ..config.stage import run_stage
from ..models.registry import load_localizer
from .networks import torch_localizer
from .suite import check_training


def main(config: Config) -> None:
    """Check the localizer's sets and write the results to out/quality/localize."""
    localizer = load_localizer(config.out("models", "localize") / "model.safetensors")
    check_training("localize", torch_localizer(localizer), config)


if __name__ == "__main__":
    run_stage(main)
