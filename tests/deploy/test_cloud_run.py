"""make cloud-run with stand-ins for Docker and gcloud, and the service that it deploys."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from src.serve.settings import Settings
from tests.deploy.dockerfiles import (
    CLOUD_RUN,
    CLOUD_RUN_DASHBOARD,
    ROOT,
    compose_service,
    documents,
    environment,
    image,
    shell_lines,
)

SCRIPT = ROOT / "docker" / "cloud-run.sh"
REGISTRY = "registry.example/my-project/plates"
STAND_IN = """#!/bin/sh
echo "$(basename "$0") $*" >>"$LOG"
case "$*" in
    *describe*) [ "$ANSWER" = none ] && exit 1; echo "$ANSWER" ;;
    *print-access-token*) echo a-token ;;
    *login*) cat >>"$LOG" ;;
    *replace*) cat >"$LOG.yml" ;;
esac
"""
SERVICE = documents(CLOUD_RUN)[0]
SPECIFICATION = SERVICE["spec"]["template"]["spec"]


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder with the few commands that the script may call."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "dirname", "basename", "date", "sed", "cat"):
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    for name in ("docker", "gcloud"):
        (folder / name).write_text(STAND_IN)
        (folder / name).chmod(0o755)
    return folder


def deploy(
    tools: Path,
    answer: str = REGISTRY,
    project: str = "my-project",
    region: str = "europe-west6",
    service: str = "",
) -> subprocess.CompletedProcess[str]:
    log = str(tools.parent / "log")
    variables = {
        "PATH": str(tools),
        "LOG": log,
        "ANSWER": answer,
        "PROJECT": project,
        "REGION": region,
        "SERVICE": service,
    }
    return subprocess.run([SCRIPT], env=variables, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("service", "file"), [("", CLOUD_RUN), ("dashboard", CLOUD_RUN_DASHBOARD)])
def test_it_builds_pushes_and_deploys_one_image(tools: Path, service: str, file: Path) -> None:
    done = deploy(tools, service=service)
    assert done.returncode == 0, done.stderr
    lines = (tools.parent / "log").read_text().splitlines()
    verbs = [re.match(r"docker \w+|gcloud \w+ \w+|a-token", line) for line in lines]
    assert [verb and verb[0] for verb in verbs] == [
        "gcloud artifacts repositories", "docker build", "gcloud auth print", "docker login", "a-token",
        "docker push", "gcloud run services",
    ]  # fmt: skip
    built = lines[1].split()[lines[1].split().index("--tag") + 1]
    name = service or "serve"
    assert re.fullmatch(re.escape(REGISTRY) + rf"/{name}:[\d-]+", built)
    assert f"--file docker/{name}.Dockerfile" in lines[1]
    assert lines[5] == f"docker push {built}"
    assert "https://registry.example" in lines[3].split()
    assert lines[6] == "gcloud run services replace - --project my-project --region europe-west6"
    (sent,) = documents(tools.parent / "log.yml")
    assert sent["spec"]["template"]["spec"]["containers"][0].pop("image") == built
    wanted = documents(file)[0]
    del wanted["spec"]["template"]["spec"]["containers"][0]["image"]
    assert sent == wanted


@pytest.mark.parametrize("name", ["project", "region"])
def test_what_is_missing_is_told_by_make(name: str) -> None:
    variables = {"project": "my-project", "region": "europe-west6"} | {name: ""}
    command = ["make", "cloud-run", *(f"{key.upper()}={value}" for key, value in variables.items())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stderr.startswith(f"error: {name.upper()} is missing")
    assert "make cloud-run PROJECT=my-project REGION=europe-west6" in done.stderr


def test_another_service_is_none(tools: Path) -> None:
    done = deploy(tools, service="runner")
    assert done.returncode == 1
    assert done.stderr.startswith("error: SERVICE is dashboard, or is left out")


@pytest.mark.parametrize("tool", ["docker", "gcloud"])
def test_a_tool_that_is_not_installed_is_told(tools: Path, tool: str) -> None:
    (tools / tool).unlink()
    done = deploy(tools)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tool} is not installed")


@pytest.mark.parametrize("answer", ["none", ""])
def test_a_missing_repository_is_told_with_the_remedy(tools: Path, answer: str) -> None:
    done = deploy(tools, answer)
    assert done.returncode == 1
    create = "gcloud artifacts repositories create plates --repository-format docker"
    assert f"{create} --project my-project --location europe-west6" in done.stderr
    assert "docker" not in (tools.parent / "log").read_text(), "something was built"
    page = shell_lines(ROOT / "docs" / "deployment.md")
    assert f"{create} --project my-project --location europe-west6" in page


@pytest.mark.parametrize("tool", ["docker build", "docker push", "docker login"])
def test_a_failure_ends_it(tools: Path, tool: str) -> None:
    text = STAND_IN + f'case "$(basename "$0") $*" in "{tool} "*) exit 7 ;; esac\n'
    (tools / "docker").write_text(text)
    assert deploy(tools).returncode == 7
    assert "gcloud run" not in (tools.parent / "log").read_text()


def test_the_service_is_one_of_cloud_run() -> None:
    assert (SERVICE["apiVersion"], SERVICE["kind"]) == ("serving.knative.dev/v1", "Service")
    for file in (CLOUD_RUN, CLOUD_RUN_DASHBOARD):
        assert file.read_text("utf-8").count("image: ") == 1, "the script replaces every one"
    name = SERVICE["metadata"]["name"]
    assert f"add-iam-policy-binding {name} " in "".join(
        shell_lines(ROOT / "docs" / "deployment.md")
    )


def test_the_service_fits_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    (container,) = SPECIFICATION["containers"]
    assert container["image"] == compose_service("serve")["image"]
    assert [str(port["containerPort"]) for port in container["ports"]] == image("serve").all(
        "EXPOSE"
    )
    for name, value in environment(container).items():
        assert name.removeprefix("PLATES_").lower() in Settings.model_fields
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert str(settings.workers) == container["resources"]["limits"]["cpu"]
    # Cloud Run gives a container 10 seconds after SIGTERM.
    assert settings.drain_s + settings.grace_s < 10
    assert SPECIFICATION["timeoutSeconds"] > settings.deadline_s
    assert SPECIFICATION["containerConcurrency"] <= settings.queue
    assert container["startupProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"


def test_the_dashboards_service_fits_its_image() -> None:
    (service,) = documents(CLOUD_RUN_DASHBOARD)
    assert (service["apiVersion"], service["kind"]) == (SERVICE["apiVersion"], SERVICE["kind"])
    assert service["metadata"]["name"] != SERVICE["metadata"]["name"]
    template = service["spec"]["template"]
    # Files that are sent go to the container that the browser is connected with.
    assert template["metadata"]["annotations"]["autoscaling.knative.dev/maxScale"] == "1"
    (container,) = template["spec"]["containers"]
    assert container["image"] == compose_service("dashboard")["image"]
    exposed = image("dashboard").all("EXPOSE")
    assert [str(port["containerPort"]) for port in container["ports"]] == exposed
    health = " ".join(image("dashboard").command("HEALTHCHECK"))
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] in health
