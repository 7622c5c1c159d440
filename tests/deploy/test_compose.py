"""docker-compose.yml: valid, usable without variables, closed to other machines, fit for the images."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from src.dashboard.common import OUT
from src.dashboard.settings import Settings as DashboardSettings
from src.serve.settings import Settings
from src.video.sources import VideoFile
from tests.deploy.dockerfiles import (
    COMPOSE,
    ROOT,
    compose_service,
    documents,
    image,
    pod,
    seconds,
)
from tests.video.footage import passing, write_video

GPU = ROOT / "docker-compose.gpu.yml"
SERVICES: dict[str, Any] = documents(COMPOSE)[0]["services"]


def check(path: Path) -> subprocess.CompletedProcess[str]:
    tool = Path(sys.executable).parent / "check-jsonschema"
    command = [str(tool), "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("path", [COMPOSE, GPU], ids=lambda path: path.name)
def test_it_fits_the_specification_of_compose(path: Path) -> None:
    done = check(path)
    assert done.returncode == 0, done.stdout


def test_the_specification_finds_a_mistake(tmp_path: Path) -> None:
    wrong = tmp_path / "docker-compose.yml"
    text = COMPOSE.read_text("utf-8")
    wrong.write_text(text.replace("stop_grace_period", "stop_grace_time"))
    assert check(wrong).returncode != 0


def compose() -> list[str]:
    """The command of Docker Compose here, of whichever spelling; empty where there is none."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]):
            done = subprocess.run([*command, "version"], capture_output=True, check=False)
            if done.returncode == 0:
                return command
    return []


@pytest.mark.parametrize("files", [[COMPOSE], [COMPOSE, GPU]], ids=["runner", "gpu"])
@pytest.mark.parametrize("profiles", [[], ["serve"], ["dashboard"], ["s3"], ["camera"]], ids=str)
def test_compose_itself_takes_it(tmp_path: Path, files: list[Path], profiles: list[str]) -> None:
    command = compose()
    if not command:
        pytest.skip("Docker Compose is not installed")
    # Elsewhere, so that no .env of this checkout is read; and no variable is set.
    for file in files:
        shutil.copy(file, tmp_path)
        command += ["-f", file.name]
    for profile in profiles:
        command += ["--profile", profile]
    variables = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = subprocess.run(
        [*command, "config", "--quiet"],
        cwd=tmp_path, env=variables, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_no_variable_has_to_be_set_to_read_the_file() -> None:
    """Compose wants those of all services, also of the profiles that are not asked for."""
    for path in (COMPOSE, GPU):
        text = path.read_text("utf-8")
        variables = re.findall(r"(?<!\$)\$\{?\w+([^}]*)\}?", text)
        assert all(rest.startswith((":-", "-")) for rest in variables)


def test_the_runner_alone_starts_by_default() -> None:
    assert [name for name, service in SERVICES.items() if not service.get("profiles")] == [
        "cml-runner"
    ]
    assert {
        profile for service in SERVICES.values() for profile in service.get("profiles", [])
    } >= {
        "serve",
        "dashboard",
        "s3",
        "camera",
    }


def test_other_machines_reach_nothing() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_images_are_built_from_what_there_is_or_pinned() -> None:
    for name, service in SERVICES.items():
        if "build" in service:
            assert (ROOT / service["build"]["context"] / service["build"]["dockerfile"]).exists()
        tag = service["image"].partition(":")[2]
        assert re.search(r"\d", tag), name
        assert "latest" not in tag


def test_volumes_are_declared_and_used() -> None:
    declared = set(documents(COMPOSE)[0]["volumes"])
    used = {
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
    }
    assert declared == {name for name in used if not name.startswith("./")}
    # The one of drawn clips is made by whoever draws one.
    assert all((ROOT / name).is_dir() for name in used - declared - {"./clips"})
    assert "/clips/" in (ROOT / ".gitignore").read_text("utf-8").split()


@pytest.mark.parametrize(
    ("name", "dockerfile"),
    [
        ("cml-runner", "runner"),
        ("serve", "serve"),
        ("dashboard", "dashboard"),
        ("watch", "watch"),
        ("events", "dashboard"),
    ],
)
def test_volumes_of_images_belong_to_their_user(name: str, dockerfile: str) -> None:
    commands = " ".join(image(dockerfile).all("RUN"))
    for volume in compose_service(name)["volumes"]:
        if volume.endswith(":ro"):
            continue
        target = volume.split(":")[1]
        assert re.search(rf"install --directory --owner \S+ --group \S+ {target}\b", commands)


@pytest.mark.parametrize("name", ["cml-runner", "serve", "dashboard", "watch", "events"])
def test_containers_have_no_rights_that_they_do_not_need(name: str) -> None:
    service = compose_service(name)
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert "privileged" not in service
    assert not any("docker.sock" in volume for volume in service["volumes"])


def test_the_server_fits_its_image() -> None:
    service = compose_service("serve")
    assert service["read_only"] is True
    assert service["ports"] == [f"127.0.0.1:8080:{image('serve').last('EXPOSE')}"]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert service["image"].endswith(f":{version}")
    defaults = Settings()
    assert seconds(service["stop_grace_period"]) > defaults.grace_s + defaults.drain_s
    for name in service["environment"]:
        assert name.removeprefix("PLATES_").lower() in Settings.model_fields


def test_the_dashboard_fits_its_image_and_the_server() -> None:
    service, server = compose_service("dashboard"), compose_service("serve")
    assert service["read_only"] is True
    default = DashboardSettings.model_fields["port"].default
    assert service["ports"] == [f"127.0.0.1:{default}:{image('dashboard').last('EXPOSE')}"]
    assert service["image"].split(":")[1] == server["image"].split(":")[1]
    variables = service["environment"]
    assert all(
        name.removeprefix("PLATES_").lower() in DashboardSettings.model_fields for name in variables
    )
    assert variables["PLATES_FEEDBACK"] == server["environment"]["PLATES_FEEDBACK"]
    assert set(server["volumes"]) <= set(service["volumes"])
    assert variables["PLATES_SERVER"] == f"http://serve:{image('serve').last('EXPOSE')}"
    # Results lie where the dashboard looks for them, and are not for it to change.
    assert f"./{OUT}:/app/{OUT}:ro" in service["volumes"]


def test_empty_variables_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in compose_service("serve")["environment"]:
        monkeypatch.setenv(name, "")
    assert Settings().feedback_url is None
    assert DashboardSettings().feedback is None


def test_the_runner_has_as_long_to_leave_as_in_kubernetes() -> None:
    grace = seconds(compose_service("cml-runner")["stop_grace_period"])
    assert grace == pod("cml-runner")["terminationGracePeriodSeconds"]
    assert "an hour" in (ROOT / "docs" / "runner.md").read_text("utf-8")
    assert grace == 3600


def test_the_gpu_is_added_to_the_runner() -> None:
    services = documents(GPU)[0]["services"]
    assert list(services) == ["cml-runner"]
    (device,) = services["cml-runner"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert image("runner").environment["NVIDIA_DRIVER_CAPABILITIES"] == "compute,utility"


# --- the local S3 ---------------------------------------------------------------------------------


def start_s3(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the container's command with a stand-in for MinIO; /data is a folder."""
    tools = folder / "bin"
    tools.mkdir(exist_ok=True)
    (tools / "minio").write_text('#!/bin/sh\necho "$@"\n')
    (tools / "minio").chmod(0o755)
    service = compose_service("s3")
    command = [text.replace("$$", "$") for text in (*service["entrypoint"], *service["command"])]
    command = [text.replace("/data", f"{folder}/data") for text in command]
    variables["PATH"] = f"{tools}:{os.environ['PATH']}"
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


CREDENTIALS = {"MINIO_ROOT_USER": "plates", "MINIO_ROOT_PASSWORD": "no-secret-at-all"}


def test_s3_starts_with_a_bucket(tmp_path: Path) -> None:
    done = start_s3(tmp_path, **CREDENTIALS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:2] == ["server", f"{tmp_path}/data"]
    assert (tmp_path / "data" / "plates").is_dir()


@pytest.mark.parametrize("name", CREDENTIALS)
def test_s3_wants_its_credentials(tmp_path: Path, name: str) -> None:
    assert set(CREDENTIALS) == set(compose_service("s3")["environment"])
    done = start_s3(tmp_path, **(CREDENTIALS | {name: ""}))
    assert done.returncode != 0
    assert f"{name}: is missing: set it in .env" in done.stderr
    assert not (tmp_path / "data").exists()


def test_s3_says_when_it_is_ready() -> None:
    service = compose_service("s3")
    assert service["healthcheck"]["test"][0] == "CMD"
    # It would start again and again, and hide what is missing.
    assert "restart" not in service
    assert service["volumes"] == ["s3:/data"]


# --- a camera that is watched ---------------------------------------------------------------------


def in_profile(name: str) -> dict[str, Any]:
    return {
        key: service for key, service in SERVICES.items() if name in service.get("profiles", [])
    }


def test_the_profile_has_all_that_a_camera_needs() -> None:
    services = in_profile("camera")
    assert set(services) == {"camera", "broker", "database", "watch", "events"}
    # They reach each other, and nothing else of this file.
    assert all(service["networks"] == ["camera"] for service in services.values())
    others = [service for name, service in SERVICES.items() if name not in services]
    assert not any("networks" in service for service in others)
    assert "ports" not in services["database"], "anybody may log in there"
    assert "ports" not in services["camera"]


def test_the_command_is_one_that_watch_takes() -> None:
    from src.sinks.options import load_options
    from src.sinks.targets import open_sinks
    from src.watch.__main__ import parse, settings_of, specs_of
    from src.watch.sinks import sink_values

    service = compose_service("watch")
    assert image("watch").command("ENTRYPOINT") == ["python", "-m", "src.watch"]
    options = parse(service["command"])
    sinks = load_options(None, sink_values(options))
    (spec,) = specs_of(options, settings_of(options, sinks))
    assert (spec.name, spec.settings.images) == ("street", True)
    found = open_sinks(sinks, [spec.name])
    names = [sink.name for sink in found]
    for sink in found:
        sink.close()
    # Hosts are services of the same network, the stream is that of the camera.
    assert names[0] == "mqtt://broker/swiss-plates"
    assert "database" in names[1]
    assert sinks.keep_days == 1, "nothing is kept without a retention period"
    published = compose_service("camera")["environment"]["MTX_PATHS_STREET_RUNONINIT"]
    assert published.split()[-1] == spec.location.replace("//camera:", "//localhost:")
    assert sinks.outbox.startswith("/outbox/")
    assert "outbox:/outbox" in service["volumes"]
    assert set(service["depends_on"]) == {"camera", "broker", "database"}
    # More than the minute for which it still sends what is left.
    assert seconds(service["stop_grace_period"]) > 60


def test_the_dashboard_shows_the_events_of_the_camera() -> None:
    url = compose_service("events")["environment"]["PLATES_EVENTS"]
    assert f"--to={url}" in compose_service("watch")["command"]
    assert compose_service("events")["image"] == compose_service("dashboard")["image"]
    assert compose_service("database")["environment"]["POSTGRES_USER"] == "plates"


def start_camera(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the container's command with a folder as /clips, and a stand-in for MediaMTX."""
    (folder / "mediamtx").write_text("#!/bin/sh\necho started\n")
    (folder / "mediamtx").chmod(0o755)
    service = compose_service("camera")
    command = [text.replace("$$", "$") for text in (*service["entrypoint"], *service["command"])]
    command = [
        text.replace("/clips/street", f"{folder}/clips/street")
        .replace(f"clip {folder}/", "clip ")
        .replace("exec /mediamtx", f"exec {folder}/mediamtx")
        for text in command
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_camera_without_its_clip_says_how_to_draw_one(tmp_path: Path) -> None:
    done = start_camera(tmp_path)
    assert done.returncode == 1
    assert "python -m src.gallery --clip clips/street.mp4" in done.stderr
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "street.mp4").write_bytes(b"")
    assert start_camera(tmp_path).stdout == "started\n"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_the_cameras_clip_loops(tmp_path: Path) -> None:
    """The command runs; its stream goes to a file instead of to the RTSP server."""
    clip = write_video(tmp_path / "street.mp4", passing("BE1"))
    words = compose_service("camera")["environment"]["MTX_PATHS_STREET_RUNONINIT"].split()
    words[words.index("/clips/street.mp4")] = str(clip)
    out = tmp_path / "out.mkv"
    at = words.index("-f")
    command = [*words[:at], "-t", "4", "-f", "matroska", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    source = VideoFile(str(out))
    # The clip itself has three seconds.
    assert source.duration == pytest.approx(4, abs=0.3)
