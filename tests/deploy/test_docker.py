"""The images: linted, pinned, made of what there is, and of nothing else; those that serve are built."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import psutil
import pytest
from packaging.requirements import Requirement

from src.dashboard.settings import Settings as DashboardSettings
from src.flywheel.events import EventFilter, EventStore
from src.generators.plate import PlateSpec, draw_plate
from src.serve.settings import Settings
from tests.deploy.dockerfiles import (
    DOCKERFILES,
    ROOT,
    Copy,
    Stage,
    compose_service,
    container,
    deployment,
    image,
    is_ignored,
    shell_lines,
    stages,
)
from tests.serving import wait_until

BIN = Path(sys.executable).parent
_NETWORK = {
    name: value
    for name, value in os.environ.items()
    if name.startswith(("PIP_", "SSL_")) or name.lower().endswith("_proxy")
}
"""How this machine reaches the package index, which a build is told from outside."""
PLATE = "ZH123456"
SERVING: dict[str, Any] = {"serve": Settings, "dashboard": DashboardSettings}
"""Images that answer over HTTP, with their settings."""


@pytest.fixture(params=DOCKERFILES, ids=lambda path: path.stem)
def dockerfile(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_every_image_is_looked_at() -> None:
    assert {path.stem for path in DOCKERFILES} >= {"runner", *SERVING}


def test_hadolint_finds_nothing(dockerfile: Path) -> None:
    done = subprocess.run(
        [BIN / "hadolint", "--failure-threshold", "style", dockerfile],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_a_rule_is_ignored_only_with_its_reason(dockerfile: Path) -> None:
    lines = dockerfile.read_text("utf-8").splitlines()
    for before, line in itertools.pairwise(lines):
        if "hadolint ignore" in line:
            assert re.fullmatch(r"# \S.*[.:]", before), line
    assert not list(ROOT.glob(".hadolint*")), "rules are ignored where they are broken"


def test_images_are_pinned_and_name_no_registry(dockerfile: Path) -> None:
    for stage in stages(dockerfile):
        if stage.base in {other.name for other in stages(dockerfile)}:
            continue
        name, _, tag = stage.base.partition(":")
        assert tag, stage.base
        assert tag != "latest"
        assert not re.search(r"[.:]", name.split("/")[0]), "a registry's host"
        if name == "python":
            assert re.fullmatch(r"3\.\d+\.\d+-slim-[a-z]+", tag)


def test_all_have_the_same_python() -> None:
    bases = {stage.base for path in DOCKERFILES for stage in stages(path)}
    (python,) = [base for base in bases if base.startswith("python:")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert f">={python[7:11]}" == project["requires-python"]


def test_what_is_copied_exists_and_is_in_the_context(dockerfile: Path) -> None:
    known = {stage.name for stage in stages(dockerfile)} - {""}
    copies = [Copy.parse(rest) for stage in stages(dockerfile) for rest in stage.all("COPY")]
    assert copies
    for copy in copies:
        if copy.origin:
            assert copy.origin in known
            continue
        for source in copy.sources:
            assert (ROOT / source).exists(), source
            assert not is_ignored(source), f"{source} is in .dockerignore"


@pytest.mark.parametrize(
    "path",
    [".env", ".git/config", ".dvc/config.local", ".venv/bin/python", "data/prepared/ocr/x.npy",
     "models/model_stack", "models/model_stack.mlem", "models/model_stack.pkl", "kubernetes/serve.yml",
     "docker/cloud-run.yml", "src/__pycache__/read.pyc", "src/serve/__pycache__/app.pyc", "out/x"],
)  # fmt: skip
def test_what_no_image_needs_is_not_in_the_context(path: str) -> None:
    assert is_ignored(path)


def test_the_whole_source_is_in_the_context() -> None:
    done = subprocess.run(
        ["git", "ls-files", "src", "models"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    files = done.stdout.split()
    assert "src/serve/page/index.html" in files
    assert [path for path in files if is_ignored(path)] == []


def test_users_are_numbers_and_not_root(dockerfile: Path) -> None:
    for number in image(dockerfile.stem).last("USER").split(":"):
        assert int(number) >= 10_000


def test_commands_are_lists_of_words(dockerfile: Path) -> None:
    last = image(dockerfile.stem)
    for keyword in ("ENTRYPOINT", "CMD"):
        if last.all(keyword):
            assert all(re.fullmatch(r"[\w./-]+", word) for word in last.command(keyword))
    assert last.all("CMD")


def test_no_secret_is_in_an_image(dockerfile: Path) -> None:
    for stage in stages(dockerfile):
        named = " ".join([*stage.environment, *stage.all("ARG"), *stage.all("LABEL")])
        assert not re.search("(?i)token|secret|password|key", named)


@pytest.mark.parametrize("name", SERVING)
def test_images_that_serve_install_before_their_last_stage(name: str) -> None:
    first, last = stages(ROOT / "docker" / f"{name}.Dockerfile")
    assert any(f"requirements-{name}.txt" in run for run in first.all("RUN"))
    assert not any(re.search(r"apt-get|\bpip\b[^&]*\binstall\b", run) for run in last.all("RUN"))
    assert any("pip uninstall" in run for run in last.all("RUN"))


@pytest.mark.parametrize("name", SERVING)
def test_what_serves_needs_no_torch(name: str) -> None:
    lines = (ROOT / f"requirements-{name}.txt").read_text("utf-8").splitlines()
    # The first line says when the set was resolved.
    names = {Requirement(line).name for line in lines[1:]}
    assert "onnxruntime" in names
    assert not names & {"torch", "torchvision", "lightning", "torchmetrics", "triton"}
    assert not [name for name in names if name.startswith("nvidia")]


@pytest.mark.parametrize("name", SERVING)
def test_the_settings_of_what_serves_exist(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in image(name).environment.items():
        if variable.startswith("PLATES_"):
            field = variable.removeprefix("PLATES_").lower()
            assert field in SERVING[name].model_fields, variable
            monkeypatch.setenv(variable, value)
    settings = SERVING[name]()
    assert settings.host == "0.0.0.0"  # noqa: S104  # within the container, that is
    assert [str(settings.port)] == image(name).all("EXPOSE") == ["8080"]


def test_the_runner_has_what_jobs_need() -> None:
    (install,) = [run for run in image("runner").all("RUN") if "apt-get install" in run]
    assert {"git", "make", "ca-certificates", "tini"} <= set(install.split())
    assert image("runner").command("ENTRYPOINT")[0] == "tini"


@pytest.mark.parametrize(
    "script", sorted((ROOT / "docker").glob("*.sh")), ids=lambda path: path.name
)
def test_scripts_are_for_any_shell(script: Path) -> None:
    assert script.read_text("utf-8").startswith("#!/bin/sh\n")
    assert os.access(script, os.X_OK)
    subprocess.run(["sh", "-n", script], check=True)
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    subprocess.run(["shellcheck", script], check=True)


def test_the_page_about_deployment_names_what_there_is() -> None:
    code = " ".join(shell_lines(ROOT / "docs" / "deployment.md"))
    names = re.findall(r"docker build -f (\S+) -t (\S+) ", code)
    assert names == [("docker/serve.Dockerfile", compose_service("serve")["image"])]
    code_of_dashboard = " ".join(shell_lines(ROOT / "docs" / "dashboard.md"))
    (dockerfile,) = re.findall(r"docker build -f (\S+) -t lpr ", code_of_dashboard)
    assert (ROOT / dockerfile).exists()
    assert "-p 127.0.0.1:8080:8080 " in code_of_dashboard
    assert "docker-compose up --build dashboard" in code_of_dashboard
    assert "make cloud-run SERVICE=dashboard " in code_of_dashboard
    assert "docker-compose up --build serve" in code
    ((path, name),) = re.findall(r"set image .*?-f (\S+)\s+(\S+)=REGISTRY/", code)
    assert (ROOT / path).exists()
    assert name == container("serve")["name"]
    for name in re.findall(r"(?:deployment|service)/(\S+)", code):
        assert name == deployment("serve")["metadata"]["name"]
    for setting in re.findall(r"\bPLATES_([A-Z_]+)", (ROOT / "docs" / "deployment.md").read_text()):
        assert setting.lower() in Settings.model_fields


# --- the images of what serves, built without Docker ----------------------------------------------


class Build:
    """Does what a Dockerfile says in folders: each stage is one, with a Python of its own.

    Absolute paths of the image are paths below the stage's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def root(self, stage: Stage) -> Path:
        return self.folder / (stage.name or "image")

    def inside(self, stage: Stage, text: str) -> str:
        """A command or a path of the image, as one of this machine."""
        return re.sub(r"(?<![\w./:])/(?=[a-z])", f"{self.root(stage)}/", text)

    def variables(self, stage: Stage) -> dict[str, str]:
        """The environment of a stage's commands: that of the Dockerfile and no other."""
        base = f"{self.root(stage)}/python/bin:/usr/bin:/bin"
        found = {"TMPDIR": str(self.root(stage) / "tmp")}
        for name, value in stage.environment.items():
            found[name] = self.inside(stage, value).replace("$PATH", base)
        return {"PATH": base, **found}

    def run(self, stage: Stage) -> None:
        """Do all steps of a stage that change its files."""
        root = self.root(stage)
        (root / "tmp").mkdir(parents=True)
        subprocess.run([sys.executable, "-m", "venv", root / "python"], check=True)
        here = root
        for keyword, rest in stage.steps:
            if keyword == "WORKDIR":
                here = self.workdir(stage)
                here.mkdir(parents=True)
            elif keyword == "RUN":
                # To give files to another user needs root.
                command = re.sub(r" --(owner|group) \S+", "", self.inside(stage, rest))
                variables = self.variables(stage) | _NETWORK
                subprocess.run(["sh", "-ec", command], cwd=here, env=variables, check=True)
            elif keyword == "COPY":
                self.copy(stage, Copy.parse(rest))

    def workdir(self, stage: Stage) -> Path:
        return Path(self.inside(stage, stage.last("WORKDIR")))

    def copy(self, stage: Stage, copy: Copy) -> None:
        origin = self.folder / copy.origin if copy.origin else ROOT
        for source in copy.sources:
            target = self.workdir(stage) / self.inside(stage, copy.target)
            found = origin / source.lstrip("/")
            if found.is_dir():
                shutil.copytree(found, target, symlinks=True, ignore=self.ignored)
            else:
                shutil.copy(found, target)

    @staticmethod
    def ignored(folder: str, names: list[str]) -> list[str]:
        here = Path(folder)
        if not here.is_relative_to(ROOT):
            return []
        return [name for name in names if is_ignored((here / name).relative_to(ROOT).as_posix())]


def build_of(name: str, folder: Path) -> Build:
    """An image, or a test that is skipped."""
    build = Build(folder)
    probe = build.folder / "probe"
    subprocess.run([sys.executable, "-m", "venv", probe], check=True)
    requirement = (ROOT / f"requirements-{name}.txt").read_text("utf-8").splitlines()[1]
    pip = str(probe / "bin" / "pip")
    command = [pip, "download", "--quiet", "--no-deps", "--dest", str(probe), requirement]
    if subprocess.run(command, check=False).returncode:
        pytest.skip("no package index can be reached")
    for stage in stages(ROOT / "docker" / f"{name}.Dockerfile"):
        build.run(stage)
    return build


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The server's image."""
    return build_of("serve", tmp_path_factory.mktemp("serve"))


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The dashboard's image."""
    return build_of("dashboard", tmp_path_factory.mktemp("dashboard"))


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The image that watches cameras."""
    return build_of("watch", tmp_path_factory.mktemp("watch"))


def in_namespace(command: list[str]) -> list[str]:
    """A command as the first process of its namespace, as in a container, where that is allowed.

    The first process gets no signal that it does not ask for, and dies of none.
    """
    wrapped = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
    try:
        allowed = (
            subprocess.run([*wrapped, "true"], check=False, capture_output=True).returncode == 0
        )
    except OSError:
        allowed = False
    return [*wrapped, *command] if allowed else command


def written(root: Path) -> dict[str, int]:
    """The files of a folder with the times of their last change."""
    return {str(path): path.lstat().st_mtime_ns for path in root.rglob("*")}


def plate_image() -> bytes:
    """A plate on a dark ground, as PNG."""
    plate, _ = draw_plate(PlateSpec(PLATE), 96)
    margins = (80, 80, 120, 120)
    ground = cv2.copyMakeBorder(plate, *margins, cv2.BORDER_CONSTANT, value=(40, 40, 42))
    return cv2.imencode(".png", ground[..., ::-1])[1].tobytes()


def plate_clip(path: Path) -> Path:
    """A clip in which a plate moves to the right, as MP4."""
    image = cv2.imdecode(np.frombuffer(plate_image(), np.uint8), cv2.IMREAD_COLOR)
    height, width = (side // 2 * 2 for side in image.shape[:2])
    size, codec = (width, height), cv2.VideoWriter_fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, codec, 8.0, size)
    for step in range(16):
        writer.write(np.roll(image, 5 * step - 40, axis=1)[:height, :width])
    writer.release()
    return path


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def started(build: Build, stage: Stage, port: int) -> Iterator[subprocess.Popen[str]]:
    environment = build.variables(stage) | {"PLATES_HOST": "127.0.0.1", "PLATES_PORT": str(port)}
    process = subprocess.Popen(
        in_namespace(stage.command("CMD")),
        cwd=build.workdir(stage), env=environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait(20)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_servers_image_reads_a_plate(built: Build) -> None:
    last = image("serve")
    port = free_port()
    before = written(built.root(last))
    with started(built, last, port) as process:
        url = f"http://127.0.0.1:{port}"

        def is_ready() -> bool:
            assert process.poll() is None, process.stderr and process.stderr.read()
            try:
                return httpx.get(f"{url}/readyz").status_code == 200
            except httpx.TransportError:
                return False

        def is_healthy() -> bool:
            environment = built.variables(last) | {"PLATES_PORT": str(port)}
            command = last.command("HEALTHCHECK")
            return subprocess.run(command, env=environment, check=False).returncode == 0

        wait_until(is_ready, 60)
        assert is_healthy()
        answer = httpx.post(
            f"{url}/predict", files={"file": ("car.png", plate_image())}, timeout=60
        )
        assert answer.status_code == 200
        assert answer.json()["plate"] == PLATE
        assert httpx.get(url).text.startswith("<!doctype html>")

        (server,) = psutil.Process(process.pid).children() or [psutil.Process(process.pid)]
        server.send_signal(signal.SIGTERM)
        status = process.wait(30)
        # uvicorn sends itself the signal again in the end, which ends any process but the first.
        assert status == (0 if server.pid != process.pid else -signal.SIGTERM)
        assert not is_healthy()
    assert written(built.root(last)) == before, "it writes where it may not"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_servers_image_reads_a_clip(built: Build, tmp_path: Path) -> None:
    content = plate_clip(tmp_path / "clip.mp4").read_bytes()
    last = image("serve")
    port = free_port()
    folder = built.root(last) / "tmp"
    with started(built, last, port):
        url = f"http://127.0.0.1:{port}"

        def is_ready() -> bool:
            try:
                return httpx.get(f"{url}/readyz").status_code == 200
            except httpx.TransportError:
                return False

        wait_until(is_ready, 60)
        answer = httpx.post(f"{url}/v1/events", content=content, timeout=200)
        assert answer.status_code == 200, answer.text
        result = json.loads(answer.text.splitlines()[-1])
        assert [event["plate"] for event in result["events"]] == [PLATE]
        assert list(folder.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_image_that_watches_stores_events(watch: Build, tmp_path: Path) -> None:
    last = image("watch")
    # Those of the Compose file, but for what is on other machines.
    (keep,) = [word for word in compose_service("watch")["command"] if "--keep-days" in word]
    url = f"sqlite:///{tmp_path}/events.db"
    words = [
        *last.command("ENTRYPOINT"), f"gate={plate_clip(tmp_path / 'clip.mp4')}", keep,
        f"--to={url}", "--with-images", f"--outbox={watch.root(last)}/outbox/outbox.db",
    ]  # fmt: skip
    done = subprocess.run(
        words, cwd=watch.workdir(last), env=watch.variables(last), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "gate: ZH 123456" in done.stdout
    events = EventStore(url)
    (row,) = events.search(EventFilter())
    assert row.plate == PLATE
    assert row.kept_until - row.seen == timedelta(days=1)
    assert events.image(row.id) is not None
    events.close()
    # What the other sinks need is there too.
    modules = "import httpx, paho.mqtt.client, psycopg, src.sinks.webhook, src.sinks.mqtt"
    command = ["python", "-c", modules]
    subprocess.run(command, cwd=watch.workdir(last), env=watch.variables(last), check=True)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_dashboards_image_shows_its_pages(dashboard: Build) -> None:
    last = image("dashboard")
    port = free_port()
    before = written(dashboard.root(last))
    with started(dashboard, last, port) as process:

        def is_healthy() -> bool:
            assert process.poll() is None, process.stderr and process.stderr.read()
            variables = dashboard.variables(last) | {"PLATES_PORT": str(port)}
            command = last.command("HEALTHCHECK")
            done = subprocess.run(command, env=variables, check=False, stderr=subprocess.DEVNULL)
            return done.returncode == 0

        wait_until(is_healthy, 60)
        assert "<title>Streamlit</title>" in httpx.get(f"http://127.0.0.1:{port}/review").text
        # Each page as a browser's session runs it, with what the image has.
        script = (
            "from streamlit.testing.v1 import AppTest\n"
            "for name in ('try_image', 'review', 'events', 'quality', 'model', 'operation'):\n"
            "    text = f'from src.dashboard import {name}\\n{name}.show()'\n"
            "    page = AppTest.from_string(text, default_timeout=60).run()\n"
            "    assert not page.exception, page.exception[0].stack_trace\n"
            "    print(name, [each.label for each in page.selectbox])\n"
        )
        done = subprocess.run(
            ["python", "-c", script], cwd=dashboard.workdir(last), env=dashboard.variables(last),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "model ['Set', 'By']" in done.stdout, "the evaluation is not in the image"
        (server,) = psutil.Process(process.pid).children() or [psutil.Process(process.pid)]
        server.send_signal(signal.SIGTERM)
        process.wait(30)
    after = written(dashboard.root(last))
    # What is uploaded is there for a moment.
    folder = str(dashboard.root(last) / "tmp")
    assert before.pop(folder)
    assert after.pop(folder)
    assert after == before, "it writes where it may not"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", SERVING)
def test_images_that_serve_have_no_tools_to_build(
    name: str, request: pytest.FixtureRequest
) -> None:
    built: Build = request.getfixturevalue({"serve": "built"}.get(name, name))
    last = image(name)
    for module in ("pip", "setuptools", "torch"):
        command = ["python", "-c", f"import {module}"]
        done = subprocess.run(command, env=built.variables(last), capture_output=True, check=False)
        assert done.returncode != 0, module
    assert (built.workdir(last) / "models" / "manifest.json").exists()
    assert not list((built.workdir(last) / "models").glob("model_stack*"))
