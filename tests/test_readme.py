"""README.md and CONTRIBUTING.md name targets, files, stages and parameters that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from src.config import Config

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TEXT = README + (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def _code() -> list[str]:
    """The lines of the shell blocks and the inline code."""
    blocks = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL))
    return [line.strip() for block in blocks for line in block.splitlines()] + inline


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set()
    for line in _code():
        if line.startswith("make "):
            words = line.split("#")[0].split()[1:]
            named |= {word for word in words if re.fullmatch(r"[a-z-]+", word)}
    assert named
    assert named <= targets


def test_every_module_and_linked_file_exists() -> None:
    modules = {name for line in _code() for name in re.findall(r"python -m (src[\w.]+)", line)}
    assert modules
    for name in modules:
        path = ROOT / Path(*name.split("."))
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), name
    for link in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (ROOT / link).exists(), link


def test_the_picture_and_the_table_name_every_stage() -> None:
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    picture = re.search(r"```mermaid\n(.*?)```", README, re.DOTALL)
    assert picture is not None
    assert set(re.findall(r"\w+_\w+", picture[1])) == set(pipeline["stages"])
    for stage in pipeline["stages"]:
        assert f"| `{stage}` |" in README


@pytest.mark.parametrize(
    "name", [name for name in Config.model_fields if not name.endswith("_path")]
)
def test_every_section_of_parameters_is_named(name: str) -> None:
    assert f"`{name}`" in README
