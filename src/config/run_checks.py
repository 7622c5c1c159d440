"""Checks of a run of DVC by its stages: that its parameters stay those that it started with.

A run is one process of DVC, by `dvc repro` or `dvc exp run`. What it started with is kept in
``.dvc/tmp/parameters``: by the first of its stages, or before that by the program that started DVC. Outside
of DVC there is nothing to compare with.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from ..core.errors import StageError
from . import PARAMS_FILE, PATHS_FILE, Config, load_config

STAGE = "DVC_STAGE"
"""Variable in which DVC names the stage to its command."""
ROOT = "DVC_ROOT"
"""Variable of the workspace in which DVC was called; the stages of some experiments run in a copy of it."""
_RECORDS = Path(".dvc/tmp/parameters")
_PIPELINE = Path("dvc.yaml")


def record(config: Config, pid: int, root: Path = Path()) -> dict[str, Any]:
    """Keep the parameters that a run of DVC starts with, unless they are kept already.

    Args:
        config: The parameters.
        pid: Process of DVC.
        root: Workspace in which it was called.

    Returns:
        The parameters that are kept, by name.
    """
    # Not among the dependencies of what serves; where DVC is, this is too.
    import psutil

    folder = root / _RECORDS
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.json"):
        if not psutil.pid_exists(int(path.stem.partition("-")[0])):
            path.unlink(missing_ok=True)
    # A process ID is used again, but not from the same moment.
    path = folder / f"{pid}-{psutil.Process(pid).create_time():.2f}.json"
    if not path.exists():
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(json.dumps(values_of(config)), encoding="utf-8")
        partial.replace(path)
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return kept


def check_start(config: Config) -> None:
    """Check that the run still has the parameters that it started with, and all feedback.

    Raises:
        StageError: It has not; the message names the parameter or the folder.
    """
    if STAGE not in os.environ:
        return
    root = Path(os.environ.get(ROOT, ""))
    if changed := changes(record(config, _dvc(), root), config):
        raise StageError(
            f"{'; '.join(changed)}. Something has changed the file while the experiment runs, perhaps a "
            f"second `dvc exp run`, so {os.environ[STAGE]} was not run. Put the values back and run the same "
            "command again: what is complete is kept. For a second experiment at the same time, use "
            "`dvc exp run --temp`."
        )
    _check_exports(config, root)


def check_end(config: Config) -> None:
    """Check that the parameters of the stage are still those that it started with.

    DVC records the values that the files have when a stage is complete.

    Args:
        config: Parameters that the stage started with.

    Raises:
        StageError: They are not.
    """
    stage = os.environ.get(STAGE)
    if stage is None:
        return
    own = _parameters_of(stage)
    if changed := changes(values_of(config), load_config(), own):
        raise StageError(
            f"{'; '.join(changed)}. Something has changed the file while {stage} ran: DVC would record "
            f"its result under a value that it was not made with. Put the value back; "
            f"`dvc commit --force {stage}` then keeps the result, and the same command as before goes on."
        )


def values_of(config: Config) -> dict[str, Any]:
    """Return all parameters by their names, such as ``TrainOCRParams.LR``, as JSON has them."""
    found: dict[str, Any] = {}
    for name, value in config.model_dump(mode="json").items():
        if isinstance(value, dict):
            found |= {f"{name}.{inner}": each for inner, each in value.items()}
        else:
            found[name] = value
    return found


def changes(
    before: dict[str, Any], config: Config, names: Iterable[str] | None = None
) -> list[str]:
    """Return a phrase for each parameter whose value has changed, with its file.

    Args:
        before: Values by name, as ``values_of`` returns them.
        config: Parameters now.
        names: Parameters and classes that count; all by default.
    """
    wanted = None if names is None else set(names)
    in_yaml = yaml.safe_load(PATHS_FILE.read_text(encoding="utf-8"))
    found = []
    for name, value in values_of(config).items():
        section = name.partition(".")[0]
        if before.get(name) != value and (wanted is None or wanted & {name, section}):
            file = PATHS_FILE if section in in_yaml else PARAMS_FILE
            found.append(f"{file}: {name} is {value!r}, but was {before.get(name)!r} at the start")
    return found


def _dvc() -> int:
    """Return the process of DVC that runs this stage: the nearest one without the stage's variable."""
    import psutil

    for process in psutil.Process().parents():
        try:
            if STAGE not in process.environ():
                return process.pid
        except psutil.Error:
            # Another user's, which DVC's never is.
            break
    return os.getppid()


def _parameters_of(stage: str) -> set[str] | None:
    """Return the parameters and classes that a stage depends on; None if dvc.yaml does not say."""
    try:
        stages = yaml.safe_load(_PIPELINE.read_text(encoding="utf-8"))["stages"]
        items = stages[stage].get("params", [])
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return None
    names = [
        name
        for item in items
        for each in ([[item]] if isinstance(item, str) else item.values())
        for name in each
    ]
    return set(names)


def _check_exports(config: Config, root: Path) -> None:
    """Check that a copy of the workspace has the sets of feedback that the workspace has."""
    if not root.is_dir() or root.samefile(Path()):
        return
    here, there = Path(config.feedback_path), root / config.feedback_path
    sets = sorted(path.name for path in there.glob("*") if path.is_dir() and path.name[0] != ".")
    missing = [
        name for name in sets if not ((here / name).exists() or (here / f"{name}.dvc").exists())
    ]
    if missing:
        files = " ".join(f"{config.feedback_path}/{name}" for name in missing)
        tracked = " ".join(f"{config.feedback_path}/{name}.dvc" for name in missing)
        raise StageError(
            f"{files}: is in the workspace {root}, but not tracked, so this copy of it lacks the feedback, "
            f"and {os.environ[STAGE]} was not run. Call `dvc add {files} && git add {tracked}` there and "
            "queue the experiment again, or run it in the workspace, without --queue or --temp."
        )
