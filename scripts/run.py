"""Run the whole pipeline with a named profile of overrides, and show what it made.

``make run`` calls ``python -m scripts.run quick``. A profile is a file of ``profiles/`` with one
override of ``dvc exp run -S`` a line; further ``-S`` go after the profile's name and win.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import yaml
from dvc.utils.serialize import parse_py

from src.config import PARAMS_FILE, PATHS_FILE, load_config

PROFILES = Path("profiles")
SOURCE = "backgrounds.source"


class RunError(Exception):
    """The run cannot start; the message says why and what to do."""


def read_profile(name: str) -> list[str]:
    """The overrides of a profile, in the file's order.

    Raises:
        RunError: there is no such profile.
    """
    path = PROFILES / f"{name}.txt"
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        known = ", ".join(sorted(file.stem for file in PROFILES.glob("*.txt")))
        raise RunError(f"{path}: no such profile; there are: {known}") from error
    return [line for line in lines if line and not line.startswith("#")]


def committed(file: Path) -> str:
    """The text of a file as it is committed: what the last run set may stand in the workspace.

    Raises:
        RunError: there is no commit.
    """
    command = ["git", "show", f"HEAD:./{file}"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RunError(
            "this folder is no Git clone with a commit, and `dvc exp run` needs one: clone the "
            "project, or call `git init && git add . && git commit -m Start` here"
        )
    return result.stdout


def left_by_other_profiles(overrides: list[str]) -> list[str]:
    """Overrides that give the committed value to what only other profiles set.

    Without them, a full run after a quick one would be as small as the quick one.
    """
    names = {override.split("=")[0] for override in overrides}
    others = {
        override.split("=")[0]
        for path in sorted(PROFILES.glob("*.txt"))
        for override in read_profile(path.stem)
    }
    values = parse_py(committed(PARAMS_FILE), str(PARAMS_FILE))
    restored = []
    for name in sorted(others - names):
        value = values
        for part in name.removeprefix(f"{PARAMS_FILE}:").split("."):
            value = value[part]
        restored.append(f"{name}={value}")
    return restored


def detected_source() -> str:
    """``cifar10`` or ``procedural``, whichever ``auto`` means on this machine now."""
    command = [sys.executable, "-m", "src.datasets.backgrounds", "--detect"]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode != 0:
        raise RunError("the backgrounds cannot be told; the message above says why")
    return result.stdout.split()[-1]


def stage_environment() -> dict[str, str]:
    """The environment of DVC and its stages: this ``python`` first, and a name for Git.

    DVC keeps experiments as commits. On a machine where Git knows no name, it fails as soon as a
    file has been changed, so a neutral one is given there.
    """
    bin_folder = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}
    known = subprocess.run(["git", "config", "user.email"], capture_output=True, check=False)
    if known.returncode != 0:
        for role in ("AUTHOR", "COMMITTER"):
            environment.setdefault(f"GIT_{role}_NAME", "Swiss Plate Reader")
            environment.setdefault(f"GIT_{role}_EMAIL", "run@localhost")
    return environment


def metrics_table(out: Path) -> str:
    """The plain numbers of ``out/evaluations/*/metrics.json``; the nested ones are DVC's to show."""
    rows: list[tuple[str, str, str]] = []
    for task in ("localize", "ocr", "stack"):
        path = out / "evaluations" / task / "metrics.json"
        if not path.exists():
            continue
        for name, value in json.loads(path.read_text(encoding="utf-8")).items():
            if isinstance(value, dict | list):
                continue
            shown = f"{value:.4f}" if isinstance(value, float) else str(value)
            rows.append((task, name, shown))
    width = max((len(name) for _, name, _ in rows), default=0)
    return "\n".join(f"  {task:<9} {name:<{width}}  {value:>12}" for task, name, value in rows)


def run(profile: str, extra: list[str]) -> int:
    """Run the pipeline; the exit status is DVC's."""
    overrides = read_profile(profile)
    overrides += left_by_other_profiles(overrides)
    source = yaml.safe_load(committed(PATHS_FILE))["backgrounds"]["source"]
    if source == "auto" and not any(item.startswith(f"{SOURCE}=") for item in extra):
        # Recorded as a parameter, a set made from procedural backgrounds is made again once
        # CIFAR-10 is there.
        overrides.append(f"{SOURCE}={detected_source()}")
    overrides += extra
    command = ["dvc", "exp", "run", *(part for item in overrides for part in ("-S", item))]
    print(f"Profile {profile} ({PROFILES / profile}.txt):")
    print("  dvc exp run", *(f"\\\n    -S {shlex.quote(item)}" for item in overrides), flush=True)
    start = time.monotonic()
    status = subprocess.run(command, env=stage_environment(), check=False).returncode
    minutes, seconds = divmod(round(time.monotonic() - start), 60)
    if status != 0:
        print(
            "\nThe run has stopped; the message above says why. Completed stages are kept: the same "
            "command goes on from there. `make reset` restores the committed parameters.",
            file=sys.stderr,
        )
        return status
    out = Path(load_config().out_path)
    print(
        f"""
Done in {minutes} min {seconds} s.

Metrics (all of them: dvc metrics show; against the last commit: dvc metrics diff)
{metrics_table(out)}

Pictures   {out}/evaluations/*/plots/images, {out}/prepared/*/plots/images
Plots      dvc plots show --open (or dvc plots diff --open)
Training   tensorboard --logdir_spec=localize:{out}/runs/localize/tensorboard,ocr:{out}/runs/ocr/tensorboard
Models     {out}/models/localize/model.safetensors, {out}/models/ocr/model.safetensors

The run's parameters and results stand in the workspace; `make reset` restores the committed ones.
dvc, python and tensorboard are in .venv/bin."""
    )
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m scripts.run")
    parser.add_argument("profile", help="a file of profiles/ without its .txt")
    parser.add_argument(
        "-S", dest="extra", action="append", default=[], metavar="NAME=VALUE", help="an override"
    )
    arguments = parser.parse_args()
    try:
        sys.exit(run(arguments.profile, arguments.extra))
    except RunError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
