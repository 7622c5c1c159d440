"""requirements.txt and pyproject.toml agree: what is needed is pinned in its range, and nothing else."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
# The first line says when the set was resolved.
LINES = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()[1:]


def _direct() -> Iterator[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = project["dependency-groups"]
    for text in project["project"]["dependencies"] + groups["pipeline"] + groups["dev"]:
        yield Requirement(text)


def _pins() -> dict[str, list[str]]:
    """The pinned versions of each package: more than one where Pythons or systems differ."""
    pins: dict[str, list[str]] = {}
    for line in LINES:
        if line and not line.lstrip().startswith("#"):
            requirement = Requirement(line)
            version = next(iter(requirement.specifier)).version
            pins.setdefault(canonicalize_name(requirement.name), []).append(version)
    return pins


@pytest.mark.parametrize("requirement", list(_direct()), ids=lambda requirement: requirement.name)
def test_a_direct_dependency_is_pinned_in_its_range(requirement: Requirement) -> None:
    versions = _pins().get(canonicalize_name(requirement.name), [])
    assert versions, f"{requirement.name} is not in requirements.txt: call `make lock`"
    outside = [version for version in versions if not requirement.specifier.contains(version)]
    assert not outside, f"{requirement} is pinned at {outside}: call `make lock`"


def _needed() -> set[str]:
    """The packages that the direct dependencies need on this machine, with themselves."""
    waiting = [requirement for requirement in _direct() if _applies(requirement)]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        # An extra adds to what the package needs without it.
        for extra in {"", *requirement.extras}:
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            needed = map(Requirement, metadata.requires(name) or [])
            waiting += [other for other in needed if _applies(other, extra)]
    return {name for name, _ in seen}


def _applies(requirement: Requirement, extra: str = "") -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def test_every_pin_is_needed() -> None:
    """A dependency that pyproject.toml names no more is pinned no more, nor what only it needs."""
    pinned = {
        canonicalize_name(requirement.name)
        for requirement in map(Requirement, LINES)
        if _applies(requirement)
    }
    assert pinned - _needed() == set(), "needed by nothing in pyproject.toml: call `make lock`"


def test_every_line_pins_one_version_and_names_no_registry() -> None:
    for line in LINES:
        assert re.fullmatch(r"[a-z0-9._-]+==[^ ;]+( ; .+)?", line), line
        assert "://" not in line


def test_direct_dependencies_have_lower_bounds() -> None:
    for requirement in _direct():
        operators = {specifier.operator for specifier in requirement.specifier}
        assert operators & {">=", "=="}, requirement
