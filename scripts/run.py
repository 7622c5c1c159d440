"""Run the whole pipeline with a named profile of overrides, and show the results.

``make run`` calls ``python -m scripts.run quick``. A profile is a file in ``profiles/`` with one
override for ``dvc exp run -S`` per line. Any ``-S`` after the profile's name takes precedence.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from dvc.exceptions import DvcException
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import ParseError, parse_py

from scripts.estimate import estimate
from scripts.workspace import call_dvc, exclusive
from src.config import PARAMS_FILE, PATHS_FILE, Config, load_config
from src.config.run_checks import changes, record, values_of
from src.config.stage import INTERRUPTED, TERMINATED
from src.core.errors import UserError
from src.core.machine import available_cores

PROFILES = Path("profiles")
SOURCE = "backgrounds.source"


class RunError(UserError):
    """The run cannot start; the message says why and what to do."""


def read_profile(name: str) -> list[str]:
    """Return the overrides of a profile, in the order of its file.

    Raises:
        RunError: There is no such profile.
    """
    path = PROFILES / f"{name}.txt"
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        known = ", ".join(sorted(file.stem for file in PROFILES.glob("*.txt")))
        raise RunError(f"{path}: no such profile; available profiles: {known}") from error
    return [line for line in lines if line and not line.startswith("#")]


def committed(file: Path) -> str:
    """Return the committed text of a file; the workspace may have values that the last run set.

    Raises:
        RunError: There is no commit.
    """
    command = ["git", "show", f"HEAD:./{file}"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RunError(
            "this folder is not a Git clone with a commit, which `dvc exp run` needs: clone the "
            "project, or run `git init && git add . && git commit -m Start` here"
        )
    return result.stdout


def target(override: str) -> tuple[Path, str]:
    """Return the file and the parameter that an override sets; the default file is params.yaml."""
    name = override.split("=", maxsplit=1)[0]
    file, _, parameter = name.rpartition(":")
    return Path(file or PATHS_FILE), parameter


def _value(text: str, file: Path, name: str) -> Any:
    """Return the value of a parameter in the text of a file.

    Raises:
        RunError: The file has no such parameter.
    """
    try:
        value = parse_py(text, str(file)) if file == PARAMS_FILE else yaml.safe_load(text)
        for part in name.split("."):
            value = value[part]
    except (ParseError, yaml.YAMLError, KeyError, TypeError, SyntaxError) as error:
        raise RunError(f"{file}: there is no parameter {name}, which a profile sets") from error
    return value


@dataclass(frozen=True)
class Restored:
    """Parameters that only other profiles set, and that therefore get their committed values.

    Attributes:
        overrides: Overrides that set the committed values.
        remarks: Remarks on parameters whose value in the workspace differs.
    """

    overrides: list[str]
    remarks: list[str]


def left_by_other_profiles(overrides: list[str]) -> Restored:
    """Give the committed value to parameters that only other profiles set.

    Otherwise, a full run after a quick one would be as small as the quick one. Whether a run or the user
    has set a value in the workspace cannot be determined, so there is a remark on it.
    """
    set_here = {target(override) for override in overrides}
    profiles: dict[tuple[Path, str], str] = {}
    for path in sorted(PROFILES.glob("*.txt")):
        for override in read_profile(path.stem):
            profiles.setdefault(target(override), path.stem)
    restored = Restored([], [])
    # Each run detects the source of the backgrounds.
    for file, name in sorted(set(profiles) - set_here - {(PATHS_FILE, SOURCE)}):
        if file not in {PARAMS_FILE, PATHS_FILE}:
            raise RunError(
                f"{PROFILES / profiles[file, name]}.txt: {file}:{name}: parameters are only in "
                f"{PARAMS_FILE} and {PATHS_FILE}"
            )
        value = _value(committed(file), file, name)
        present = _value(file.read_text(encoding="utf-8"), file, name)
        override = f"{file}:{name}={'null' if value is None else value}"
        restored.overrides.append(override)
        if present != value:
            restored.remarks.append(
                f"{file}: {name} is {present} here, but the committed value {value} is used because the "
                f"profile {profiles[file, name]} also sets it. "
                f'To keep your value, commit it or add ARGS="-S {file}:{name}={present}".'
            )
    return restored


def detected_source() -> str:
    """Return ``cifar10`` or ``procedural``, whichever ``auto`` means on this machine now."""
    command = [sys.executable, "-m", "src.fetch_backgrounds", "--detect"]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode != 0:
        raise RunError("the source of the backgrounds cannot be determined; see the message above")
    return result.stdout.split()[-1]


def stage_environment() -> dict[str, str]:
    """Return the environment of DVC and its stages: this ``python`` first, and a name for Git.

    DVC keeps experiments as commits. On a machine where Git has no user name or address, it fails as
    soon as a file has changed, so neutral ones are set there.
    """
    bin_folder = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}
    for setting, neutral in (("name", "Swiss Plate Reader"), ("email", "run@localhost")):
        command = ["git", "config", f"user.{setting}"]
        known = subprocess.run(command, capture_output=True, check=False)
        if not known.stdout.strip():
            for role in ("AUTHOR", "COMMITTER"):
                environment.setdefault(f"GIT_{role}_{setting.upper()}", neutral)
    return environment


def metrics_table(out: Path) -> str:
    """Return a table of the top-level numbers of ``out/evaluations/*/metrics.json``.

    DVC shows the nested ones.
    """
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


def config_of(overrides: list[str]) -> Config:
    """Return the parameters that a run would have, checked before it starts and changes any file.

    Raises:
        RunError: An override names no parameter.
        ConfigError: A value is not allowed.
    """
    with tempfile.TemporaryDirectory() as folder:
        for file in (PARAMS_FILE, PATHS_FILE):
            shutil.copy(file, folder)
        for file in (PARAMS_FILE, PATHS_FILE):
            settings = [
                item.removeprefix(f"{file}:") for item in overrides if target(item)[0] == file
            ]
            try:
                apply_overrides(str(Path(folder) / file), settings)
            except (DvcException, OSError) as error:
                raise RunError(f"-S {file}: {error.__cause__ or error}") from error
        return load_config(Path(folder))


STARTED = re.compile(r"Running stage '(\w+)'")


@dataclass
class Clock:
    """Measure the seconds of each stage from the output of DVC.

    Attributes:
        seconds: Seconds by stage, in the order in which they ran. The time that DVC takes between stages
            and at the end counts towards the stage before.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    _stage: str = ""
    _since: float = 0.0

    def read(self, line: str) -> None:
        """Process a line of DVC's output when it is printed."""
        if started := STARTED.search(line):
            self.stop()
            self._stage = started[1]

    def stop(self) -> None:
        """Assign the elapsed time to the stage that is running."""
        now = time.monotonic()
        if self._stage:
            self.seconds[self._stage] = now - self._since
        self._stage, self._since = "", now


def run_dvc(command: list[str], clock: Clock, lock: int, config: Config) -> int:
    """Run DVC, show its output, measure the time of its stages and return its exit status.

    Args:
        command: Command line of DVC.
        clock: Clock that measures the stages.
        lock: Descriptor of the workspace's lock.
        config: Parameters of the run, which its stages will compare with those that they find.
    """
    # Unbuffered, so that lines arrive when they are printed.
    environment = {**stage_environment(), "PYTHONUNBUFFERED": "1"}
    status = call_dvc(command, environment, lock, partial(record, config), clock.read)
    clock.stop()
    if status == 0 and (changed := changes(values_of(config), load_config())):
        # After its last stage, or its experiment would record them without a word.
        print(
            f"error: {'; '.join(changed)}. Something has changed the file during the run; its experiment "
            "records this value, which no stage has used.",
            file=sys.stderr,
        )
        return 1
    return status


def duration(seconds: float) -> str:
    """Return a duration as text, such as ``3 min 20 s`` or ``20 s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def seconds_table(seconds: dict[str, float], expected: dict[str, float]) -> str:
    """Return a table of the seconds of each stage beside the estimate."""
    rows = [
        f"  {stage:<18} {value:8.0f} {expected.get(stage, 0.0):10.0f}"
        for stage, value in seconds.items()
    ]
    skipped = [stage for stage in expected if stage not in seconds]
    if skipped:
        rows.append(f"  not run, as nothing has changed: {', '.join(skipped)}")
    return "\n".join([f"  {'stage':<18} {'seconds':>8} {'estimate':>10}", *rows])


def run(profile: str, extra: list[str]) -> int:
    """Run the pipeline and return the exit status of DVC.

    Raises:
        BusyError: Another run is in this workspace.
        RunError: The run cannot start.
        ConfigError: A parameter is not allowed.
    """
    with exclusive(f"make run PROFILE={profile}") as lock:
        return _run(profile, extra, lock)


def _run(profile: str, extra: list[str], lock: int) -> int:
    overrides = read_profile(profile)
    chosen = {target(item) for item in overrides + extra}
    restored = left_by_other_profiles(overrides + extra)
    overrides += restored.overrides
    source = _value(committed(PATHS_FILE), PATHS_FILE, SOURCE)
    if source == "auto" and (PATHS_FILE, SOURCE) not in chosen:
        # The source is recorded as a parameter, so that a set made from procedural backgrounds is made
        # again once CIFAR-10 is available.
        overrides.append(f"{SOURCE}={detected_source()}")
    overrides += extra
    command = ["dvc", "exp", "run", *(part for item in overrides for part in ("-S", item))]
    print(f"Profile {profile} ({PROFILES / profile}.txt):")
    print("  dvc exp run", *(f"\\\n    -S {shlex.quote(item)}" for item in overrides))
    print(*(f"  note: {remark}" for remark in restored.remarks), sep="\n")
    config = config_of(overrides)
    expected = estimate(config)
    print(
        f"About {duration(sum(expected.values()))} on {available_cores()} cores if every stage runs; "
        f"a GPU is faster.",
        flush=True,
    )
    clock, start = Clock(), time.monotonic()
    status = run_dvc(command, clock, lock, config)
    elapsed = time.monotonic() - start
    if status != 0:
        print(
            "\nThe run has stopped; see the message above. Completed stages are kept: run the same "
            "command again to continue. `make reset` restores the committed parameters.",
            file=sys.stderr,
        )
        return status
    out = Path(load_config().out_path)
    print(
        f"""
Done in {duration(elapsed)}.

{seconds_table(clock.seconds, expected)}

Metrics (dvc metrics show lists all; dvc metrics diff compares with the last commit)
{metrics_table(out)}

Images     {out}/evaluations/*/plots/images, {out}/prepared/*/plots/images
Plots      dvc plots show --open (or dvc plots diff --open)
Training   tensorboard --logdir_spec=localize:{out}/runs/localize/tensorboard,ocr:{out}/runs/ocr/tensorboard
Models     {out}/models/localize/model.safetensors, {out}/models/ocr/model.safetensors

The parameters and results of this run are in the workspace; `make reset` restores the committed ones.
dvc, python and tensorboard are in .venv/bin."""
    )
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m scripts.run")
    parser.add_argument("profile", help="name of a file in profiles/, without .txt")
    parser.add_argument(
        "-S", dest="extra", action="append", default=[], metavar="NAME=VALUE", help="override"
    )
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        sys.exit(run(arguments.profile, arguments.extra))
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
