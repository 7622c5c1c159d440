"""Search for better parameters of a training: ``python -m src.search ocr --trials 64`` (or ``localize``).

Each trial trains the network with values drawn from the ranges of src/search/spaces.py; the first one has
those of params.py. ASHA ends the trials that are behind early. Trials run beside each other, one on each core
or GPU of this machine, or with ``engine: ray`` in params.yaml, of the cluster. The best values are printed as
the command that runs the pipeline with them. All is written to search/NAME, nothing to out/ or models/. The
same command again continues a search that was interrupted.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ..config import Config
from ..config.stage import run_stage
from ..core.dependencies import PACKAGE
from ..core.machine import available_cores
from ..core.program import program
from ..engine.ray_cluster import connect
from .manifest import claim, described
from .spaces import experiment, space_of
from .train import STAGES, check_prepared, resources_of

FOLDER = Path("search")
OBJECT_STORE = 100 * 2**20
"""Bytes of the object store of a Ray on this machine alone; trials hand over a few figures."""


def main(config: Config, options: argparse.Namespace) -> None:
    """Run or continue a search, and print its result.

    Raises:
        StageError: The prepared set is missing, the folder holds another search, or no trial succeeded.
        ClusterError: Ray is not installed, or no cluster answers.
    """
    check_prepared(config, options.task)
    folder = FOLDER / (options.name or options.task)
    space = space_of(config, options.task)
    claim(folder, described(config, options.task, options.trials, space))
    _start(config)
    from .trials import search

    gpu = "GPU" in resources_of(config)
    try:
        best = search(config, options.task, space, options.trials, folder.absolute(), gpu)
    except KeyboardInterrupt:
        print("interrupted: the same command continues the search", file=sys.stderr)
        raise
    for name, error in best.failures.items():
        print(f"{folder / 'trials' / name}: failed: {error}", file=sys.stderr)
    print(
        f"best {best.measure}: {best.value:.4f} in {folder / 'trials' / best.name} "
        f"({best.first:.4f} with the values of params.py; {best.trials} trials)"
    )
    print(f"curves: tensorboard --logdir {folder / 'trials'}")
    print(experiment(best.values))


def _start(config: Config) -> None:
    """Connect to the cluster, or start Ray on this machine alone."""
    if config.engine == "ray":
        connect(config.cluster)
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    ray.init(
        address="local",
        num_cpus=available_cores(),
        object_store_memory=OBJECT_STORE,
        include_dashboard=False,
        logging_level=logging.WARNING,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": str(PACKAGE.parent)}},
    )


def _name(text: str) -> str:
    if not text or Path(text).name != text or text.startswith("."):
        raise argparse.ArgumentTypeError(f"must be the name of a folder, not {text!r}")
    return text


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return int(text)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog=program("search"),
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("task", choices=STAGES, help="network to train")
    parser.add_argument("--trials", type=_count, default=64, help="number of trials (default: 64)")
    parser.add_argument("--name", type=_name, help="folder in search/ (default: the task)")
    return parser.parse_args(arguments)


def command(arguments: Sequence[str] | None = None) -> None:
    """Run the command.

    Raises:
        SystemExit: An error occurred; its message is shown to the user.
    """
    run_stage(partial(main, options=parse(arguments)))


if __name__ == "__main__":
    command()
