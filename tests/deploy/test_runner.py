"""docker/runner.sh with a stand-in for CML, and the page that describes the runner."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.deploy.dockerfiles import ROOT, compose_service, container, deployment, shell_lines
from tests.serving import wait_until

SCRIPT = ROOT / "docker" / "runner.sh"
PAGE = ROOT / "docs" / "runner.md"
TEXT = PAGE.read_text("utf-8")
NEEDED = re.findall(r'^: "\$\{(\w+):\?', SCRIPT.read_text("utf-8"), re.MULTILINE)
TOKEN = "a-token-of-github"  # noqa: S105  # of nobody
VARIABLES = {"REPO_URL": "https://github.com/owner/name", "personal_access_token": TOKEN}

# As CML's own: asked to leave while a job runs, it does not, and forgets it. Jobs end when it is asked.
STAND_IN = """#!/bin/sh
printf '%s\\n' "$@" >arguments
env >variables
jobs=$JOBS
trap 'echo asked >>asked; [ "$jobs" -eq 0 ] && exit 0; jobs=$((jobs - 1))' TERM
[ -n "$FAILS" ] && exit "$FAILS"
echo up >up
while :; do sleep 0.02; done
"""

Launch = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Start the script in ``tmp_path``, where the stand-in leaves what it was told."""
    cml = tmp_path / "bin" / "cml"
    cml.parent.mkdir()
    cml.write_text(STAND_IN)
    cml.chmod(0o755)
    running: list[subprocess.Popen[str]] = []

    def start(**variables: str) -> subprocess.Popen[str]:
        path = f"{cml.parent}:{os.environ['PATH']}"
        environment = {"PATH": path, "ASK_AGAIN_S": "0.05", "JOBS": "0", "FAILS": "", **variables}
        process = subprocess.Popen(
            [SCRIPT], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=10)


@pytest.mark.parametrize("name", NEEDED)
def test_what_is_missing_is_told(launch: Launch, tmp_path: Path, name: str) -> None:
    for value in ({}, {name: ""}):
        others = {other: text for other, text in VARIABLES.items() if other != name}
        process = launch(**others, **value)
        _, error = process.communicate(timeout=10)
        assert process.returncode != 0
        assert f"{name}: is missing: set it to" in error
        assert TOKEN not in error
    assert not (tmp_path / "arguments").exists(), "CML was started"


def test_cml_is_told_what_it_needs_and_the_token_in_secret(launch: Launch, tmp_path: Path) -> None:
    launch(**VARIABLES)
    wait_until((tmp_path / "up").exists)
    assert (tmp_path / "arguments").read_text().split() == [
        "runner", "launch", "--repo=https://github.com/owner/name", "--labels=cml-runner-gpu",
        "--idle-timeout=-1",
    ]  # fmt: skip
    variables = dict(
        line.split("=", 1) for line in (tmp_path / "variables").read_text().splitlines()
    )
    assert variables["REPO_TOKEN"] == TOKEN
    holders = {name for name, value in variables.items() if value == TOKEN}
    assert holders == set(variables["_CML_RUNNER_SENSITIVE_ENV"].split(":")), "jobs would get it"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("jobs", [0, 3])
def test_it_leaves_when_the_job_has_ended(
    launch: Launch, tmp_path: Path, number: signal.Signals, jobs: int
) -> None:
    process = launch(**VARIABLES, JOBS=str(jobs))
    wait_until((tmp_path / "up").exists)
    process.send_signal(number)
    assert process.wait(10) == 0
    assert (tmp_path / "asked").read_text().count("asked") == jobs + 1


def test_a_second_signal_changes_nothing(launch: Launch, tmp_path: Path) -> None:
    process = launch(**VARIABLES, JOBS="5")
    wait_until((tmp_path / "up").exists)
    process.send_signal(signal.SIGTERM)
    wait_until((tmp_path / "asked").exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert (tmp_path / "asked").read_text().count("asked") == 6


def test_a_failure_of_cml_is_one_of_the_script(launch: Launch) -> None:
    assert launch(**VARIABLES, FAILS="3").wait(10) == 3


def test_cml_knows_the_options() -> None:
    if shutil.which("cml") is None:
        pytest.skip("CML is not installed")
    command = ["cml", "runner", "launch", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for option in re.findall(r"cml runner launch (.*) &", SCRIPT.read_text("utf-8"))[0].split():
        assert option.split("=")[0] in text


def test_all_ways_give_the_script_what_it_needs() -> None:
    assert len(NEEDED) == 2
    kubernetes = {item["name"]: item["valueFrom"] for item in container("cml-runner")["env"]}
    assert set(kubernetes) == set(NEEDED)
    assert set(compose_service("cml-runner")["environment"]) == set(NEEDED)
    for name in NEEDED:
        assert f"| `{name}` |" in TEXT
        assert re.search(rf"^export {name}|read -rs {name}", TEXT, re.MULTILINE)
    secret = kubernetes["personal_access_token"]["secretKeyRef"]
    assert (secret["name"], secret["key"]) == ("gh-pat-secret", "personal_access_token")
    assert f"secret generic {secret['name']} --from-literal={secret['key']}=" in TEXT
    config = kubernetes["REPO_URL"]["configMapKeyRef"]
    assert f"configmap {config['name']} --from-literal={config['key']}=" in TEXT


def test_the_labels_are_those_that_the_workflows_ask_for() -> None:
    (labels,) = re.findall(r"--labels=(\S+)", SCRIPT.read_text("utf-8"))
    assert f"`self-hosted` and `{labels}`" in " ".join(TEXT.split())
    asked = [
        job["runs-on"]
        for path in (ROOT / ".github" / "workflows").glob("*.yml")
        for job in yaml.safe_load(path.read_text("utf-8"))["jobs"].values()
        if "self-hosted" in job.get("runs-on", "")
    ]
    assert all(set(runs_on) == {"self-hosted", labels} for runs_on in asked)


def test_the_page_names_what_there_is() -> None:
    lines = shell_lines(PAGE)
    code = "\n".join(lines)
    assert "docker/runner.sh" in lines
    assert "docker-compose up --build" in lines
    assert "docker-compose -f docker-compose.yml -f docker-compose.gpu.yml up --build" in lines
    assert "kubectl apply -f kubernetes/cml-runner.yml" in lines
    for path in re.findall(r"-f (\S+\.(?:yml|Dockerfile))", code):
        assert (ROOT / path).exists(), path
    for link in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (PAGE.parent / link).exists(), link
    named = set(re.findall(r"REGISTRY/(\S+)", code))
    assert named == {compose_service("cml-runner")["image"]}
    name = deployment("cml-runner")["metadata"]["name"]
    assert f"deployment/{name}" in code
    assert f"{container('cml-runner')['name']}=REGISTRY/" in code


def test_the_version_of_cml_is_the_same_everywhere() -> None:
    (checked,) = re.findall(
        r'"\$\(cml --version\)" = (\S+)', (ROOT / "docker" / "runner.Dockerfile").read_text("utf-8")
    )
    assert compose_service("cml-runner")["image"].split(":")[1] == checked
    assert set(re.findall(r"@dvcorg/cml@([\d.]+\d)", TEXT)) == {checked}
    assert f"CML](https://cml.dev) {checked} " in TEXT
