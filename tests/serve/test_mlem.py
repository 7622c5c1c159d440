"""MLEM in its own environment: saved, loaded, served, and answering as this project's server does."""

from __future__ import annotations

import os
import pickletools
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest

from tests.bundles import scene, write_bundle
from tests.serving import serving, wait_until

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / ".venv-mlem"
pytestmark = pytest.mark.slow


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A folder with the code, a bundle, and MLEM's environment where that was made."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    write_bundle(tmp_path / "models")
    if ENVIRONMENT.exists():
        (tmp_path / ".venv-mlem").symlink_to(ENVIRONMENT)
    return tmp_path


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )


def test_without_mlem_it_is_said_how_to_get_it(workspace: Path) -> None:
    (workspace / ".venv-mlem").unlink(missing_ok=True)
    done = run(workspace, sys.executable, "-m", "src.save_stack")
    assert done.returncode == 1
    assert "make mlem" in done.stderr
    (workspace / "models/model_stack.mlem").write_text("", encoding="utf-8")
    done = run(workspace, sys.executable, "-m", "src.serve", "--engine", "mlem")
    assert done.returncode == 1
    assert "make mlem" in done.stderr


def test_what_was_not_saved_is_not_served(workspace: Path) -> None:
    done = run(workspace, sys.executable, "-m", "src.serve", "--engine", "mlem")
    assert done.returncode == 1
    assert "python -m src.save_stack" in done.stderr


@contextmanager
def mlem_serving(folder: Path, *command: str) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (folder / "log").open("w")
    process = subprocess.Popen([*command, "--port", str(port)], cwd=folder, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        try:
            return httpx.get(f"{url}/interface.json").status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_until(answers, 60)
        yield url
    finally:
        process.terminate()
        process.wait(20)
        log.close()


@pytest.mark.timeout(300)
def test_saved_loaded_served_and_alike(workspace: Path) -> None:
    if not ENVIRONMENT.exists():
        assert "CI" not in os.environ, "make mlem: `make test` does it"
        pytest.skip("MLEM's environment is missing: make mlem")
    # Saved, from the main environment.
    done = run(workspace, sys.executable, "-m", "src.save_stack")
    assert done.returncode == 0, done.stderr
    saved = (workspace / "models/model_stack").read_bytes()
    # It is a reference: nothing is called but what makes one.
    names = [arg for code, arg, _ in pickletools.genops(saved) if "UNICODE" in code.name]
    assert "Stack" in names
    assert len(saved) < 1000
    # Loaded.
    python = str(workspace / ".venv-mlem/bin/python")
    code = (
        "import numpy as np; from mlem.api import load; predict = load('models/model_stack'); "
        "print(predict(np.full((90, 120), 120, np.uint8)))"
    )
    done = run(workspace, python, "-c", code)
    assert "{'plate': None, 'canton': None, 'number': None, 'confidence': None}" in done.stdout, (
        done.stderr
    )
    # Served, by both commands, and as the native server does.
    images = {
        text: cv2.imencode(suffix, scene(text))[1].tobytes()
        for text, suffix in (("BE1", ".png"), ("GE65432", ".jpg"), ("ZH123456", ".webp"))
    }
    images["nothing"] = cv2.imencode(".png", np.full((100, 200), 120, np.uint8))[1].tobytes()
    plain = (
        str(workspace / ".venv-mlem/bin/mlem"), "serve", "fastapi", "--model", "models/model_stack",
        "--request_serializer", "pil_numpy",
    )  # fmt: skip
    with serving(workspace / "models") as native:
        for command in ((sys.executable, "-m", "src.serve", "--engine", "mlem"), plain):
            with mlem_serving(workspace, *command) as url:
                for name, content in images.items():
                    mine = native.post("/predict", files={"file": content}).json()
                    theirs = httpx.post(
                        f"{url}/predict", files={"file": content}, timeout=30
                    ).json()
                    assert theirs == mine
                    assert theirs["plate"] == (None if name == "nothing" else name)


@pytest.mark.timeout(120)
def test_another_bundle_than_was_saved_is_refused(workspace: Path) -> None:
    if not ENVIRONMENT.exists():
        assert "CI" not in os.environ, "make mlem: `make test` does it"
        pytest.skip("MLEM's environment is missing: make mlem")
    assert run(workspace, sys.executable, "-m", "src.save_stack").returncode == 0
    write_bundle(workspace / "models", threshold=0.7)
    code = (
        "import numpy as np; from mlem.api import load; "
        "load('models/model_stack')(np.zeros((9, 9), np.uint8))"
    )
    done = run(workspace, str(workspace / ".venv-mlem/bin/python"), "-c", code)
    assert done.returncode != 0
    assert "not the bundle that was saved for MLEM" in done.stderr
