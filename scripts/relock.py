"""Update the code in dvc.lock without a run: ``make relock``.

This is for changes after which every stage computes the same as before: a moved module, a name, a
comment, a number in the code that became a parameter. Commands, paths and hashes of code are rewritten,
and parameters that are new or gone are taken in; hashes of data and results, and the values of all other
parameters, stay as the last run left them. The caller vouches that the results are the same; nothing
here verifies it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from dvc.dependency import ParamsDependency
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc_data.hashfile.hash_info import HashInfo

from scripts.workspace import exclusive
from src.core.errors import UserError


def relock(root: Path | None = None) -> list[str]:
    """Rewrite the hashes of code in the dvc.lock of a workspace, by default the current folder.

    Args:
        root: Root folder of the workspace.

    Returns:
        Stages whose entry has changed, in the order of dvc.yaml.

    Raises:
        UserError: A stage has never run, depends on data unknown to the lock, or its code is missing; or a
            run is in the workspace.
    """
    with exclusive("make relock", root or Path()), Repo(root and str(root)) as repo, repo.lock:
        made = [Path(out.fs_path) for stage in repo.index.stages for out in stage.outs]
        stages = [stage for stage in repo.index.stages if not stage.is_data_source]
        # All stages are checked before the first entry is written.
        code = [_code(stage, made) for stage in stages]
        return [
            stage.addressing
            for stage, deps in zip(stages, code, strict=True)
            if _relocked(stage, deps)
        ]


def _code(stage: Any, made: list[Path]) -> list[Any]:
    """Return the dependencies of a stage that no stage makes."""
    if not all(out.hash_info for out in stage.outs):
        raise UserError(f"dvc.lock: {stage.addressing} has never run; run `make repro`")
    code = []
    for dep in stage.deps:
        path = Path(dep.fs_path)
        if isinstance(dep, ParamsDependency):
            continue
        if not any(path == out or out in path.parents or path in out.parents for out in made):
            if not dep.exists:
                raise UserError(f"{dep}: {stage.addressing} depends on it, but it is missing")
            code.append(dep)
        elif not dep.hash_info:
            raise UserError(
                f"dvc.lock: {stage.addressing} was never run with {dep}; run `make repro`"
            )
    return code


def _relocked(stage: Any, code: list[Any]) -> bool:
    """Rewrite the entry of a stage if its code, its command or its parameters' names have changed.

    Returns:
        Whether they have.
    """
    params = [dep for dep in stage.deps if isinstance(dep, ParamsDependency)]
    before = [dep.hash_info for dep in code + params]
    for dep in code:
        dep.save()
    for dep in params:
        dep.hash_info = HashInfo(
            dep.hash_info.name, _with_names(dep.hash_info.value, dep.read_params())
        )
    if before == [dep.hash_info for dep in code + params] and not stage.changed_stage():
        return False
    stage.dump(update_pipeline=False)
    return True


def _with_names(recorded: Any, current: Any) -> Any:
    """Return the recorded values under the current names; a name that is new has its current value."""
    if not isinstance(recorded, dict) or not isinstance(current, dict):
        return recorded
    return {
        name: _with_names(recorded[name], value) if name in recorded else value
        for name, value in current.items()
    }


if __name__ == "__main__":
    try:
        stages = relock()
    except (UserError, DvcException) as error:
        sys.exit(f"error: {error}")
    print(f"dvc.lock: {', '.join(stages) if stages else 'nothing'} updated without a run")
