"""What answers for the packages and images: SBOM, audit, dates of the pinned sets, digests of base images."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted(ROOT.glob("requirements*.txt"))


def recipe(target: str) -> str:
    """The commands of a target of the Makefile, as make would run them."""
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", "--old-file=.venv/.synced", target],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def environment(*folders: Path) -> dict[str, str]:
    path = os.pathsep.join(map(str, [*folders, Path(sys.executable).parent]))
    return {**os.environ, "PATH": f"{path}{os.pathsep}{os.environ['PATH']}"}


def lines_of(target: str) -> str:
    text = recipe(target)
    # What stands before it builds the environment.
    return text[text.index({"sbom": "awk ", "audit": "for file in"}[target]) :]


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_pinned_sets_are_dated(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert re.fullmatch(r"# Resolved on 20\d\d-[01]\d-[0-3]\d\.", first)
    assert 'echo "# Resolved on $(date' in recipe("lock")


def test_the_sbom_is_of_the_servers_environment(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "requirements-serve.txt", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    done = subprocess.run(
        ["sh", "-ec", lines_of("sbom")],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    sbom = json.loads((tmp_path / "sbom.cdx.json").read_text(encoding="utf-8"))
    assert sbom["bomFormat"] == "CycloneDX"
    assert sbom["metadata"]["component"]["name"] == "swiss-plates"
    found = {(canonicalize_name(each["name"]), each.get("version")) for each in sbom["components"]}
    lines = (ROOT / "requirements-serve.txt").read_text(encoding="utf-8").splitlines()
    pinned = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert pinned
    assert found == {
        (canonicalize_name(each.name), next(iter(each.specifier)).version) for each in pinned
    }
    assert not any(name in ("torch", "dvc") for name, _ in found)


@pytest.mark.parametrize(("status", "passes"), [(0, True), (1, False)])
def test_the_audit_asks_about_every_pinned_set(tmp_path: Path, status: int, passes: bool) -> None:
    """With a stand-in for pip-audit, which needs a network."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "called $*"\nexit {status}\n')
    python.chmod(0o755)
    done = subprocess.run(
        ["sh", "-c", lines_of("audit")],
        cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode == 0) == passes
    called = re.findall(
        r"called -m pip_audit --requirement (\S+) --no-deps --disable-pip", done.stdout
    )
    assert called == [
        "requirements.txt", "requirements-serve.txt", "requirements-dashboard.txt",
        "requirements-watch.txt",
    ]  # fmt: skip
    assert "Resolved on 20" in done.stdout


def test_pip_audit_reads_the_pinned_sets() -> None:
    """Without a network, it gets as far as asking for the first package's advisories."""
    done = subprocess.run(
        [
            sys.executable, "-m", "pip_audit", "--requirement", "requirements-serve.txt", "--no-deps",
            "--disable-pip", "--progress-spinner", "off", "--strict", "--timeout", "1", "--dry-run",
        ],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"would have audited \d\d+ packages", done.stdout + done.stderr)


# Digests

DIGEST = f"sha256:{'0123456789abcdef' * 4}"


def pin(folder: Path, answer: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Pin the images of copies of the Dockerfiles, with a stand-in for Docker that knows one digest."""
    (folder / "docker").mkdir(exist_ok=True)
    shutil.copy(ROOT / "docker/pin-images.sh", folder / "docker")
    (folder / "bin").mkdir(exist_ok=True)
    docker = folder / "bin/docker"
    docker.write_text(f'#!/bin/sh\necho "$*" >>"{folder}/asked"\necho "{answer}"\nexit {status}\n')
    docker.chmod(0o755)
    return subprocess.run(
        [folder / "docker/pin-images.sh"],
        env=environment(folder / "bin"), capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "docker").mkdir()
    for path in (ROOT / "docker").glob("*.Dockerfile"):
        # Whether or not somebody has pinned them here.
        text = re.sub(r"@sha256:[0-9a-f]+", "", path.read_text(encoding="utf-8"))
        (tmp_path / "docker" / path.name).write_text(text, encoding="utf-8")
    return tmp_path


def dockerfiles(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (folder / "docker").glob("*.Dockerfile")}


def test_images_are_pinned_to_the_digests_of_the_registry(folder: Path) -> None:
    before = dockerfiles(folder)
    done = pin(folder, DIGEST)
    assert done.returncode == 0, done.stderr
    after = dockerfiles(folder)
    for name, text in after.items():
        froms = re.findall(r"^FROM .*", text, re.MULTILINE)
        assert froms
        assert all(f"@{DIGEST}" in line for line in froms)
        # Nothing else has changed, such as the name of a build stage.
        assert text.replace(f"@{DIGEST}", "") == before[name]
    asked = (folder / "asked").read_text().splitlines()
    assert len(asked) == len(set(asked))
    # A second time, for tags that have moved.
    newer = DIGEST.replace("0", "f")
    assert pin(folder, newer).returncode == 0
    assert {
        name: text.replace(newer, DIGEST) for name, text in dockerfiles(folder).items()
    } == after


@pytest.mark.parametrize(("answer", "status"), [("", 1), ("latest", 0), (DIGEST[:-1], 0)])
def test_without_a_digest_nothing_is_changed(folder: Path, answer: str, status: int) -> None:
    before = dockerfiles(folder)
    done = pin(folder, answer, status)
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert dockerfiles(folder) == before
