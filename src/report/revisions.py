"""Parameters, metrics, plots and model sizes of a revision, read through DVC without PyTorch."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dvc.api
import yaml
from dvc.exceptions import DvcException

from ..core.errors import UserError
from ..evaluation.paired import FILE, Outcomes, parse_outcomes

WORKSPACE = "workspace"
"""DVC's name for the current state of the files."""
PARAMETERS = ("params.py", "params.yaml")


class RevisionError(UserError):
    """Raised if DVC or Git cannot provide what is asked for."""


@dataclass
class Revision:
    """A commit, or the workspace.

    Attributes:
        name: Name of the revision as it was requested.
        commit: Hash of the commit, or of HEAD for the workspace; None if there is no commit.
        parameters: Parameters, flattened to names such as ``TrainOCRParams.LR``.
        metrics: Metrics by file, flattened to names such as ``uncertainty.ece``.
        sizes: Size in bytes of models and other outputs by path, as recorded in dvc.lock.
        outcomes: Which plates of each set the stack reads; empty if no evaluation has written them.
    """

    name: str
    commit: str | None
    parameters: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, Outcomes] = field(default_factory=dict)


@dataclass
class Plots:
    """Plots of two revisions.

    Attributes:
        charts: Vega-Lite specifications with their data, by their names in dvc.yaml.
        images: Image files by path and revision.
        missing: One line for each plot that a revision lacks.
    """

    charts: dict[str, dict[str, Any]] = field(default_factory=dict)
    images: dict[str, dict[str, Path]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def resolve(name: str) -> str | None:
    """Return the commit of a revision, or None if there is no revision of this name.

    Args:
        name: Revision in Git's syntax. With a trailing ``...``, as in ``git diff``, it means the merge
            base of the revision and HEAD.

    Raises:
        RevisionError: Git is not installed, or this is not a repository.
    """
    try:
        if name.endswith("..."):
            tip = resolve(name.removesuffix("..."))
            return tip and (_git("merge-base", tip, "HEAD").stdout.strip() or None)
        done = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    except OSError as error:
        raise RevisionError(f"git cannot be run: {error}") from error
    if done.returncode == 128:
        raise RevisionError(f"no Git repository here: {done.stderr.strip()}")
    return done.stdout.strip() or None


def is_shallow() -> bool:
    """Return whether this clone lacks a part of the history."""
    return _git("rev-parse", "--is-shallow-repository").stdout.strip() == "true"


def read_revision(name: str = WORKSPACE) -> Revision:
    """Read the parameters, metrics, sizes and outcomes of a commit, or of the workspace.

    Anything that the revision lacks is left out.

    Raises:
        RevisionError: The revision is unknown.
    """
    commit = resolve("HEAD" if name == WORKSPACE else name)
    if commit is None and name != WORKSPACE:
        raise RevisionError(
            f"Git does not know the revision {name!r}; fetch it or name another one"
        )
    at = None if name == WORKSPACE else commit
    revision = Revision(name, commit)
    for path in PARAMETERS:
        if _text(path, at) is not None:
            revision.parameters |= _flatten(_asked(dvc.api.params_show, path, at))
    for path in _metric_files(at, revision.parameters):
        # Not metrics_show, which fails for a commit if the workspace has no such file.
        if _text(path, at) is not None:
            revision.metrics[path] = _flatten(json.loads(_asked(dvc.api.read, path, at)))
        file = str(Path(path).with_name(FILE))
        if (text := _text(file, at)) is not None:
            try:
                revision.outcomes |= parse_outcomes(text)
            except ValueError as error:
                raise RevisionError(f"{file} of {name}: {error}") from error
    lock = yaml.safe_load(_text("dvc.lock", at) or "") or {}
    for stage in lock.get("stages", {}).values():
        revision.sizes |= {out["path"]: out.get("size", 0) for out in stage.get("outs", [])}
    return revision


def read_plots(base: str | None, folder: Path) -> Plots:
    """Read the plots of the workspace and, if given, of a commit to compare with.

    Args:
        base: Commit to compare with, or None.
        folder: Folder that DVC writes images to.

    Raises:
        RevisionError: DVC fails.
    """
    command = ["show"] if base is None else ["diff", base]
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "plots", *command, "--json", "--out", str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RevisionError(f"`dvc plots {' '.join(command)}` failed: {done.stderr.strip()}")
    content = json.loads(done.stdout or "{}")
    plots = Plots()
    for name, renderings in content.get("data", {}).items():
        for rendering in renderings:
            if rendering["type"] == "image":
                for revision in rendering["revisions"]:
                    plots.images.setdefault(name, {})[revision] = Path(rendering["url"])
            else:
                plots.charts[name] = rendering["content"]
    for error in content.get("errors", []):
        plots.missing.append(f"{error.get('name') or error.get('source')}: not in {error['rev']}")
    plots.missing = sorted(set(plots.missing))
    return plots


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)


def _text(path: str, commit: str | None) -> str | None:
    """Return the content of a file in a commit or the workspace, or None if it does not exist."""
    if commit is None:
        return Path(path).read_text(encoding="utf-8") if Path(path).is_file() else None
    done = _git("show", f"{commit}:{path}")
    return done.stdout if done.returncode == 0 else None


def _asked(ask: Any, path: str, commit: str | None) -> Any:
    try:
        return ask(path, rev=commit)
    except (DvcException, OSError) as error:
        raise RevisionError(f"{path}: {error}") from error


def _metric_files(commit: str | None, parameters: Mapping[str, Any]) -> list[str]:
    """Return the paths of the metrics files that dvc.yaml names."""
    pipeline = yaml.safe_load(_text("dvc.yaml", commit) or "") or {}
    return [
        re.sub(r"\$\{(\w+)\}", lambda found: str(parameters.get(found[1], found[0])), path)
        for path in pipeline.get("metrics", [])
    ]


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
