"""Stage check_stack: check the sets on which both networks together are calibrated and evaluated.

The networks are the exported ones; the features are those of the localizer. No set may share an image
with another one or with the training sets. The held-out test set is used for that comparison only,
because nobody should tune on it.

Writes the same files as check_localize, to out/quality/stack.

python -m src.quality.check_stack
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from ..config import Config
from ..config.stage import run_stage
from ..models.registry import load_localizer
from .base import Evidence, evidence_of
from .networks import torch_localizer
from .samples import prepared
from .suite import run
from .with_bundle import bundle_networks

SETS = ("val", "formats", "shifted", "clutter", "calibration", "negatives")
HOLDOUT = "holdout"


def main(config: Config) -> None:
    """Check the sets of the stack and write the results to out/quality/stack."""
    localizer = load_localizer(config.out("models", "localize") / "model.safetensors")
    networks = replace(
        bundle_networks(config.out("models", "stack")),
        describe=torch_localizer(localizer).describe,
    )
    look = partial(evidence_of, networks=networks, config=config)
    count = config.QualityParams.STACK_SAMPLES
    before = [look(prepared(config.prepared("localize") / name)) for name in ("train", "val")]
    before.append(look(prepared(config.prepared("stack") / HOLDOUT), count=count))
    sets: list[Evidence] = []
    for name in SETS:
        item = look(prepared(config.prepared("stack") / name), count=count)
        item.others = [*before, *sets]
        sets.append(item)
    run(sets, config, config.out("quality", "stack"), "Data quality of the stack's sets")


if __name__ == "__main__":
    run_stage(main)
