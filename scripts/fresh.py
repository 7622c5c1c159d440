"""Report whether dvc.lock matches code, data and parameters: ``make fresh``.

The state of each stage is DVC's own. ``dvc repro --dry --allow-missing`` exits with 0 whatever it would
run, and stops with an error where data is missing, as in a fresh clone. Here, missing data makes no
stage stale, because DVC can pull it. Files that a stage reads inside a missing folder cannot be
compared, though.

The exit status is 0 if the lock is fresh, 3 if stages would run, and 1 if that cannot be determined.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dvc.dependency import ParamsDependency
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.repo.reproduce import get_active_graph

from src.core.errors import UserError

STALE = 3
"""Exit status when stages would run."""
LABEL = "run-pipeline"
"""Label of a pull request that makes the self-hosted runner run the pipeline."""
_MISSING = {"deleted", "not in cache"}


class FreshError(UserError):
    """Whether the lock is fresh cannot be determined."""


@dataclass
class Freshness:
    """The stages that ``dvc repro`` would run, and why.

    Attributes:
        stages: All stages that would run, in the order of dvc.yaml.
        reasons: Changes by stage name, for the stages that do not merely follow others.
        only_parameters: Whether nothing but parameters has changed.
    """

    stages: list[str] = field(default_factory=list)
    reasons: dict[str, list[str]] = field(default_factory=dict)
    only_parameters: bool = False

    @property
    def fresh(self) -> bool:
        """Whether no stage would run."""
        return not self.stages

    def __str__(self) -> str:
        """Return a readable line."""
        if self.fresh:
            return "dvc.lock is fresh: it matches code, data and parameters."
        reasons = dict.fromkeys(reason for changed in self.reasons.values() for reason in changed)
        names = ", ".join(self.stages)
        line = f"dvc.lock is stale: {names} would run because {', '.join(reasons)} changed."
        if self.only_parameters:
            return (
                f"{line} Only parameters changed: add the label {LABEL} to run them on the runner."
            )
        return f"{line} Run `make repro` and commit the results, or add the label {LABEL}."


def freshness(root: Path | None = None) -> Freshness:
    """Compare dvc.lock with a workspace, by default the current folder.

    Raises:
        FreshError: DVC cannot read the pipeline.
    """
    try:
        # No lock is taken, so that a pipeline running here is not disturbed.
        with Repo(root and str(root)) as repo:
            return _freshness(repo)
    except DvcException as error:
        raise FreshError(f"{error}. Run this command in a clone of the project.") from error


def _freshness(repo: Any) -> Freshness:
    graph = get_active_graph(repo.index.graph)
    makers = {out.fs_path: out for stage in repo.index.stages for out in stage.outs}
    added = (out for stage in repo.index.stages if stage.is_data_source for out in stage.outs)
    missing = {parent for out in added if not out.exists for parent in Path(out.fs_path).parents}
    reasons: dict[str, list[str]] = {}
    parameters, stale = True, set()
    for stage in repo.index.stages:
        # The dependencies of a frozen stage do not count.
        deps = [] if stage.frozen else stage.deps
        of_parameters = list(_changed_parameters(deps))
        others = [
            *_changed_definition(stage),
            *_changed_deps(deps, makers, missing),
            *_changed_outs(stage),
        ]
        if of_parameters or others:
            reasons[stage.addressing] = others + of_parameters
            parameters = parameters and not others
            stale |= {stage, *_followers(graph, stage)}
    return Freshness(
        stages=[stage.addressing for stage in repo.index.stages if stage in stale],
        reasons=reasons,
        only_parameters=bool(reasons) and parameters,
    )


def _followers(graph: Any, stage: Any) -> set[Any]:
    """Return all stages that depend on a stage; the edges of the graph lead to dependencies."""
    found: set[Any] = set()
    waiting = [stage]
    while waiting:
        new = set(graph.predecessors(waiting.pop())) - found
        found |= new
        waiting += new
    return found


def _changed_definition(stage: Any) -> Iterable[str]:
    if stage.changed_stage() or stage.always_changed:
        yield f"the command of {stage.addressing}"


def _changed_parameters(deps: Iterable[Any]) -> Iterable[str]:
    for dep in deps:
        if isinstance(dep, ParamsDependency):
            for file, names in dep.status().items():
                # A missing file has a single word here instead of names.
                yield from (
                    [f"{file}: {name}" for name in names] if isinstance(names, dict) else [file]
                )


def _changed_deps(deps: Iterable[Any], makers: dict[str, Any], missing: set[Path]) -> Iterable[str]:
    """Yield the files and folders that have changed since the stage read them.

    Args:
        deps: Dependencies of a stage.
        makers: Outputs of stages by their path.
        missing: Folders in which data tracked by ``dvc add`` is missing.
    """
    for dep in deps:
        if isinstance(dep, ParamsDependency):
            continue
        for name, state in dep.status().items():
            if state not in _MISSING:
                if Path(dep.fs_path) not in missing:
                    yield name
            elif dep.fs_path in makers:
                # The lock alone tells whether the stage read what the other stage made.
                if makers[dep.fs_path].hash_info != dep.hash_info:
                    yield name
            elif not any(str(parent) in makers for parent in Path(dep.fs_path).parents):
                yield name


def _changed_outs(stage: Any) -> Iterable[str]:
    for out in stage.outs:
        # Results kept in Git are not data that DVC could pull.
        pulled = _MISSING if out.use_cache and out.hash_info else set()
        yield from [name for name, state in out.status().items() if state not in pulled]


def write_outputs(result: Freshness) -> None:
    """Write the outputs and the summary of a GitHub workflow; do nothing elsewhere."""
    outputs = {
        "fresh": str(result.fresh).lower(),
        "only_parameters": str(result.only_parameters).lower(),
        "stages": " ".join(result.stages),
    }
    append("GITHUB_OUTPUT", "".join(f"{name}={value}\n" for name, value in outputs.items()))
    append("GITHUB_STEP_SUMMARY", f"{result}\n")


def append(variable: str, text: str) -> None:
    """Append to the file that an environment variable names, if it is set."""
    if file := os.environ.get(variable):
        with Path(file).open("a", encoding="utf-8") as stream:
            stream.write(text)


def insert(result: Freshness, report: Path) -> None:
    """Write the line into a report, below its first line.

    Raises:
        FreshError: There is no report.
    """
    try:
        title, _, rest = report.read_text(encoding="utf-8").partition("\n")
    except OSError as error:
        raise FreshError(f"{report}: no such report; run `make report` to write it") from error
    report.write_text(f"{title}\n\n{result}\n{rest}", encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Print the line and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.fresh", description="Report whether dvc.lock is fresh."
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object instead of a line")
    parser.add_argument("--into", type=Path, metavar="FILE", help="report to add the line to")
    parser.add_argument(
        "--accept-parameters",
        action="store_true",
        help="exit with status 0 if only parameters have changed",
    )
    options = parser.parse_args(arguments)
    try:
        result = freshness()
        if options.into:
            insert(result, options.into)
    except FreshError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"fresh": result.fresh, **asdict(result)}) if options.json else result)
    write_outputs(result)
    accepted = result.fresh or (options.accept_parameters and result.only_parameters)
    return 0 if accepted else STALE


if __name__ == "__main__":
    sys.exit(main())
