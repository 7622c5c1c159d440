"""README.md, CONTRIBUTING.md and docs/ name targets, files, stages and parameters that there are."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from src.config import Config

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
TEXT = "\n".join([README, (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), *PAGES.values()])


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
            words = re.split("[#&|;]", line)[0].split()[1:]
            named |= {word for word in words if re.fullmatch(r"[a-z-]+", word)}
    assert named
    assert named <= targets


def test_every_module_and_linked_file_exists() -> None:
    modules = {name for line in _code() for name in re.findall(r"python -m (src[\w.]+)", line)}
    assert modules
    for name in modules:
        path = ROOT / Path(*name.split("."))
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), name
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / link).exists(), link
    for page, text in PAGES.items():
        for link in re.findall(r"(?:\]\(|src=\")([^)#:\"]+)(?:#[\w-]*)?[)\"]", text):
            assert (page.parent / link).exists(), f"{page}: {link}"


def test_the_image_and_the_table_name_every_stage() -> None:
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    image = re.search(r"```mermaid\n(.*?)```", README, re.DOTALL)
    stages = PAGES[ROOT / "docs" / "pipeline.md"]
    assert image is not None
    assert set(re.findall(r"\w+_\w+", image[1])) == set(pipeline["stages"])
    for stage in pipeline["stages"]:
        assert f"| `{stage}` |" in stages


@pytest.mark.parametrize(
    "name", [name for name in Config.model_fields if not name.endswith("_path")]
)
def test_every_section_of_parameters_is_named(name: str) -> None:
    assert f"`{name}`" in PAGES[ROOT / "docs" / "parameters.md"]


def test_the_readme_is_short_and_starts_with_what_to_type() -> None:
    lines = README.splitlines()
    assert len(lines) <= 170
    screen = "\n".join(lines[:45])
    for command in ("make run", "make test", "pip install", "swiss-plates read"):
        assert command in screen


@pytest.mark.slow
def test_the_site_is_complete_and_asks_no_other_host(tmp_path: Path) -> None:
    """Pages link nothing that is missing (strict), and load nothing from elsewhere."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    site = tmp_path / "site"
    assert {path.stem for path in site.glob("*.html")} - {"404"} == {path.stem for path in PAGES}
    api = (site / "api.html").read_text(encoding="utf-8")
    for name in ("PlateReader", "stream", "StreamResult", "ImageError"):
        assert re.search(rf"<code[^>]*>.*{name}", api), name
    for page in site.glob("*.html"):
        loaded = re.findall(
            r"<(?:script|img|link|iframe)[^>]*?(?:src|href)=\"?(https?:[^\"\s>]+)",
            page.read_text(encoding="utf-8"),
        )
        assert loaded == [], page
    assert (site / "search" / "search_index.json").is_file()
