"""The distribution: what a wheel holds, and reading in an environment where nothing else is installed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import httpx
import pytest
from PIL import Image

import src
from src import cli
from src.inference.bundle import DEFAULT
from tests.bundles import scene
from tests.serving import wait_until

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PREFIX = "swiss_plates"


def test_the_version_is_one() -> None:
    assert PROJECT["project"]["version"] == src.__version__


def test_every_package_is_installed() -> None:
    packages = {
        ".".join([PREFIX, *path.parent.relative_to(ROOT / "src").parts])
        for path in (ROOT / "src").rglob("__init__.py")
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == packages | {f"{PREFIX}.bundle_data"}


def test_the_group_of_the_pipeline_has_what_the_extras_have() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    union = {each for name in ("train", "serve", "dashboard") for each in extras[name]}
    assert set(PROJECT["dependency-groups"]["pipeline"]) == union


def test_what_the_package_offers_is_imported_at_its_first_use() -> None:
    code = (
        "import sys, src; assert 'onnxruntime' not in sys.modules and 'numpy' not in sys.modules; "
        "from src import Plate, PlateReader, StreamResult; print(PlateReader.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "PlateReader\n"
    with pytest.raises(AttributeError, match="no attribute 'Reader'"):
        _ = src.Reader


# The command


def test_the_command_lists_its_subcommands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert all(re.search(rf"^  {name} +\w", text, re.MULTILINE) for name in cli.SUBCOMMANDS)


@pytest.mark.parametrize("name", cli.SUBCOMMANDS)
def test_each_subcommand_helps_in_its_own_name(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # It is set, and so it is restored.
    monkeypatch.setattr(sys, "argv", ["swiss-plates"])
    # Names of settings are made when their module is imported.
    for module in [each for each in sys.modules if each.endswith(".settings")]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(SystemExit) as end:
        cli.main([name, "--help"])
    assert end.value.code == 0
    if name not in ("serve", "dashboard"):
        assert f"usage: swiss-plates {name} " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("missing", "is_told"), [("sklearn.cluster", True), ("src.quality.suite", False)]
)
def test_a_missing_extra_is_named_and_nothing_else(
    missing: str,
    is_told: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: str) -> None:
        raise ModuleNotFoundError(missing, name=missing)

    monkeypatch.setattr(sys, "argv", ["swiss-plates"])
    monkeypatch.setattr(cli, "import_module", fail)
    with pytest.raises(SystemExit if is_told else ModuleNotFoundError):
        cli.main(["quality", "x"])
    error = capsys.readouterr().err
    expected = (
        f"error: swiss-plates quality needs {missing}, which is not installed: "
        "pip install 'swiss-plates[train]'\n"
    )
    assert error == (expected if is_told else "")


def test_an_unknown_subcommand_ends_with_those_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["reed"])
    assert end.value.code == 2
    assert "'read'" in capsys.readouterr().err


# In an environment of its own


def _uv(*arguments: str | Path) -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("uv"), *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    _uv("build", "--wheel", "--quiet", "--out-dir", folder, ROOT)
    (path,) = folder.glob("*.whl")
    return path


@pytest.mark.slow
def test_the_wheel_holds_all_code_and_the_bundle(wheel: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "src"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    wanted = {name.replace("src", PREFIX, 1) for name in listed if (ROOT / name).is_file()}
    wanted |= {f"{PREFIX}/bundle_data/{path.name}" for path in DEFAULT.iterdir() if path.is_file()}
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if name.startswith(f"{PREFIX}/")}
        metadata = next(name for name in archive.namelist() if name.endswith("/METADATA"))
        text = archive.read(metadata).decode()
    assert found == wanted
    base = re.findall(r"^Requires-Dist: ([\w-]+)[^;\n]*$", text, re.MULTILINE)
    assert "numpy" in base
    assert not {"torch", "lightning", "dvc", "fastapi", "streamlit"} & set(base)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_it_reads_where_nothing_else_is_installed(wheel: Path, tmp_path: Path) -> None:
    environment, work = tmp_path / "venv", tmp_path / "work"
    work.mkdir()
    _uv("venv", "--quiet", "--python", sys.executable, environment)
    _uv("pip", "install", "--quiet", "--python", environment / "bin" / "python", wheel)
    photo = work / "photo.png"
    Image.fromarray(scene("BE1")).save(photo)
    # Nothing of the checkout is in reach, and nobody is called.
    variables = {"PATH": os.environ["PATH"], "HOME": str(work), "https_proxy": "http://127.0.0.1:9"}

    def run(*command: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, cwd=work, env=variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done.stderr
        return done

    command = environment / "bin" / "swiss-plates"
    line = json.loads(run(command, "read", "--json", "photo.png").stdout)
    assert line["path"] == "photo.png"
    assert line["plates"] is not None
    code = (
        "from swiss_plates import PlateReader; import sys; "
        "print(len(PlateReader.load().read('photo.png'))); "
        "assert not {'torch', 'pydantic', 'fastapi'} & set(sys.modules)"
    )
    python = environment / "bin" / "python"
    assert run(python, "-c", code).stdout == f"{len(line['plates'])}\n"
    assert f"swiss-plates {src.__version__}" in run(command, "--version").stdout
    for name, extra in (("serve", "serve"), ("dashboard", "dashboard"), ("quality", "train")):
        error = run(command, name, status=2).stderr
        assert f"pip install 'swiss-plates[{extra}]'" in error
    error = run(command, "read", "nothing.png", status=1).stderr
    assert error == "error: nothing.png: there is no such file\n"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_checkout_serves_where_the_requirements_alone_are_installed(tmp_path: Path) -> None:
    environment, log = tmp_path / "venv", tmp_path / "log"
    _uv("venv", "--quiet", "--python", sys.executable, environment)
    python = environment / "bin" / "python"
    _uv("pip", "sync", "--quiet", "--python", python, ROOT / "requirements-serve.txt")
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [python, "-m", "src.serve", "--port", "0"], cwd=ROOT, stderr=stream
        )
    try:
        wait_until(lambda: "serving on" in log.read_text() or process.poll() is not None, 60)
        found = re.search(r"serving on (\S+)", log.read_text())
        assert found, log.read_text()
        wait_until(lambda: httpx.get(f"{found[1]}/readyz").status_code == 200, 60)
        photo = tmp_path / "photo.png"
        Image.fromarray(scene("BE1")).save(photo)
        answer = httpx.post(f"{found[1]}/predict", files={"file": photo.read_bytes()})
        assert set(answer.json()) == {"plate", "canton", "number", "confidence"}
    finally:
        process.terminate()
        process.wait(20)
