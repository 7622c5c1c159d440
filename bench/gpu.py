"""All that needs a GPU, as one command: the CUDA tests, the training throughput and the whole pipeline.

    make bench-gpu [ARGS="--json"]

The steps follow each other; the first that fails ends the run. On one H200 the whole is meant to take
less than ten minutes, and the pipeline less than six.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from src.core.errors import UserError
from src.core.provenance import machine

STEPS = {
    "tests": [sys.executable, "-m", "pytest", "-q", "-k", "gpu or cuda"],
    "training": [sys.executable, "bench/train.py", "--seconds", "10", "--json"],
    "pipeline": [
        sys.executable, "-m", "scripts.run", "full", "-S", "trainer.accelerator=cuda",
    ],
}  # fmt: skip
"""Commands, in the order in which they run."""


def measure() -> dict[str, float]:
    """Run all steps and return the seconds of each.

    Raises:
        UserError: There is no CUDA device, or a step fails.
    """
    if not torch.cuda.is_available():
        raise UserError("there is no CUDA device; this benchmark measures one")
    seconds = {}
    for name, command in STEPS.items():
        print(f"--- {name}: {' '.join(command[1:])}", file=sys.stderr, flush=True)
        start = time.perf_counter()
        status = subprocess.run(command, check=False, stdout=sys.stderr).returncode
        if status:
            raise UserError(f"{name}: failed with status {status}")
        seconds[name] = round(time.perf_counter() - start, 1)
    return seconds


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure what needs a GPU.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    try:
        seconds = measure()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    result = {"machine": machine(torch.cuda.get_device_name()), "seconds": seconds}
    if options.json:
        print(json.dumps(result))
    else:
        print(result["machine"])
        for name, taken in seconds.items():
            print(f"{name:<10}{taken:8.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
