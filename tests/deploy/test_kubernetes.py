"""The manifests: valid, restricted, and in agreement with the images and the server's settings."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from src.serve.settings import Settings
from tests.deploy.dockerfiles import (
    MANIFESTS,
    ROOT,
    compose_service,
    container,
    deployment,
    documents,
    environment,
    image,
    pod,
    shell_lines,
)

DOCUMENTS = [
    pytest.param(document, id=f"{path.stem}-{document['kind']}")
    for path in MANIFESTS
    for document in documents(path)
    # No schema of Kubernetes: test_ray_job.py has its own.
    if document["kind"] != "RayJob"
]
IMAGES = {"cml-runner": "runner", "serve": "serve"}
UNITS = {"": 1, "Mi": 2**20, "Gi": 2**30}


def quantity(text: str | int) -> float:
    number = str(text).rstrip("MGi")
    return float(number) * UNITS[str(text)[len(number) :]]


def of_kind(kind: str) -> dict[str, Any]:
    """The document of a kind in kubernetes/serve.yml."""
    found = documents(ROOT / "kubernetes" / "serve.yml")
    (only,) = [document for document in found if document["kind"] == kind]
    return only


def validate(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def test_every_manifest_is_looked_at() -> None:
    assert {path.stem for path in MANIFESTS} >= set(IMAGES)
    kinds = {document["kind"] for document in documents(ROOT / "kubernetes" / "serve.yml")}
    assert kinds == {
        "Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy",
    }  # fmt: skip


@pytest.mark.parametrize("document", DOCUMENTS)
def test_it_fits_the_schemas_of_kubernetes(document: dict[str, Any]) -> None:
    validate(document)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_schemas_find_a_mistake(document: dict[str, Any]) -> None:
    wrong = copy.deepcopy(document)
    wrong["spec"]["mistake"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(wrong)


@pytest.mark.parametrize("name", IMAGES)
def test_the_pod_security_standard_is_the_restricted_one(name: str) -> None:
    security = pod(name)["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(name)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod(name)["automountServiceAccountToken"] is False
    assert all(set(volume) <= {"name", "emptyDir"} for volume in pod(name).get("volumes", []))


@pytest.mark.parametrize("name", IMAGES)
def test_the_image_is_that_of_compose_with_its_user(name: str) -> None:
    assert container(name)["image"] == compose_service(name)["image"]
    uid, gid = image(IMAGES[name]).last("USER").split(":")
    security = pod(name)["securityContext"]
    assert (str(security["runAsUser"]), str(security["runAsGroup"])) == (uid, gid)
    assert "command" not in container(name)
    assert "args" not in container(name)


@pytest.mark.parametrize("name", IMAGES)
def test_labels_and_selectors_agree(name: str) -> None:
    of = deployment(name)
    labels = of["spec"]["template"]["metadata"]["labels"]
    assert of["spec"]["selector"]["matchLabels"] == labels == of["metadata"]["labels"]


@pytest.mark.parametrize("name", IMAGES)
def test_requests_are_within_limits(name: str) -> None:
    resources = container(name)["resources"]
    assert {"cpu", "memory"} <= set(resources["requests"])
    assert "memory" in resources["limits"]
    for resource, limit in resources["limits"].items():
        assert quantity(resources["requests"][resource]) <= quantity(limit)


# --- the server -----------------------------------------------------------------------------------


def test_the_servers_settings_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = environment(container("serve"))
    assert variables
    for name, value in variables.items():
        assert name.removeprefix("PLATES_").lower() in Settings.model_fields, name
        monkeypatch.setenv(name, value)
    # It follows the limit of cores, which the server sees.
    assert "PLATES_WORKERS" not in variables
    assert "cpu" in container("serve")["resources"]["limits"]


def test_no_service_sets_a_setting() -> None:
    assert pod("serve")["enableServiceLinks"] is False
    assert not of_kind("Service")["metadata"]["name"].upper().startswith("PLATES")


def test_the_server_has_the_time_that_it_gives_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(container("serve")).items():
        monkeypatch.setenv(name, value)
    command = container("serve")["lifecycle"]["preStop"]["exec"]["command"]
    assert command[0] == "sleep"
    used = int(command[1]) + Settings().drain_s + Settings().grace_s
    assert pod("serve")["terminationGracePeriodSeconds"] > used


def test_the_ports_are_those_of_the_image() -> None:
    (port,) = container("serve")["ports"]
    assert str(port["containerPort"]) == image("serve").last("EXPOSE")
    (service,) = of_kind("Service")["spec"]["ports"]
    assert service["targetPort"] == port["name"]
    (ingress,) = of_kind("NetworkPolicy")["spec"]["ingress"]
    assert [item["port"] for item in ingress["ports"]] == [port["containerPort"]]


def test_probes_ask_the_right_routes() -> None:
    server = container("serve")
    routes = (ROOT / "src" / "serve" / "app.py").read_text("utf-8")
    probes = {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/livez"}
    for probe, route in probes.items():
        assert server[probe]["httpGet"] == {"path": route, "port": server["ports"][0]["name"]}
        assert f'"{route}"' in routes
    startup = server["startupProbe"]
    assert startup["failureThreshold"] * startup["periodSeconds"] >= 30


def test_the_others_are_for_the_servers_pods() -> None:
    labels = deployment("serve")["spec"]["template"]["metadata"]["labels"]
    assert of_kind("Service")["spec"]["selector"] == labels
    assert of_kind("PodDisruptionBudget")["spec"]["selector"] == {"matchLabels": labels}
    assert of_kind("NetworkPolicy")["spec"]["podSelector"] == {"matchLabels": labels}
    (spread,) = pod("serve")["topologySpreadConstraints"]
    assert spread["labelSelector"] == {"matchLabels": labels}
    target = of_kind("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert target["kind"] == "Deployment"
    assert target["name"] == deployment("serve")["metadata"]["name"]


def test_the_ingresses_lead_to_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    page = ROOT / "docs" / "deployment.md"
    (line,) = [line for line in shell_lines(page) if line.startswith("kubectl set env")]
    _, _, _, target, *variables = line.split()
    assert target == f"deployment/{deployment('serve')['metadata']['name']}"
    for variable in variables:
        monkeypatch.setenv(*variable.split("="))
    settings = Settings()
    expected = {
        settings.root_path: settings.max_body_mib,
        f"{settings.root_path}/v1/events": settings.max_clip_mib,
    }
    service, found = of_kind("Service"), {}
    for ingress in documents(ROOT / "kubernetes" / "ingress.yml"):
        (rule,) = ingress["spec"]["rules"]
        (path,) = rule["http"]["paths"]
        assert path["backend"]["service"]["name"] == service["metadata"]["name"]
        assert path["backend"]["service"]["port"]["name"] == service["spec"]["ports"][0]["name"]
        size = ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-body-size"]
        found[path["path"]] = float(size.removesuffix("m"))
    assert found == expected
    assert (
        settings.trusted_proxies
        == dict(each.split("=") for each in variables)["PLATES_TRUSTED_PROXIES"]
    )


def test_pods_may_be_moved_and_are_never_all_gone() -> None:
    spec = of_kind("HorizontalPodAutoscaler")["spec"]
    assert "replicas" not in deployment("serve")["spec"], "each apply would undo the autoscaler"
    assert 0 < of_kind("PodDisruptionBudget")["spec"]["minAvailable"] < spec["minReplicas"]
    assert spec["minReplicas"] < spec["maxReplicas"]
    assert deployment("serve")["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_nothing_goes_out() -> None:
    spec = of_kind("NetworkPolicy")["spec"]
    assert sorted(spec["policyTypes"]) == ["Egress", "Ingress"]
    assert spec["egress"] == []


def test_the_server_has_room_for_as_many_clips_as_it_takes() -> None:
    (volume,) = pod("serve")["volumes"]
    (mount,) = container("serve")["volumeMounts"]
    assert mount == {"name": volume["name"], "mountPath": "/tmp"}  # noqa: S108  # the container's
    most = Settings().max_clips * Settings().max_clip
    assert quantity(volume["emptyDir"]["sizeLimit"]) >= most


# --- the runner -----------------------------------------------------------------------------------


def test_the_runner_gets_a_gpu_and_starts_again() -> None:
    spec = deployment("cml-runner")["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}, "two would need two GPUs"
    assert pod("cml-runner").get("restartPolicy", "Always") == "Always"
    resources = container("cml-runner")["resources"]
    assert resources["requests"]["nvidia.com/gpu"] == resources["limits"]["nvidia.com/gpu"] == 1
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod(
        "cml-runner"
    )["tolerations"]


def test_the_runner_fits_on_a_small_node_with_a_gpu() -> None:
    """4 cores, 15 GiB, 40 GB of disk, less what Kubernetes keeps; and a run fits into what is asked."""
    requests = container("cml-runner")["resources"]["requests"]
    assert quantity(requests["cpu"]) <= 3.9
    assert quantity(requests["memory"]) <= quantity("12Gi")
    # Environment, data, and the sets that are drawn anew beside the old ones.
    assert quantity("20Gi") <= quantity(requests["ephemeral-storage"]) <= quantity("34Gi")


def test_the_runner_writes_only_into_volumes() -> None:
    mounts = {
        mount["name"]: mount["mountPath"] for mount in container("cml-runner")["volumeMounts"]
    }
    volumes = {volume["name"]: volume["emptyDir"] for volume in pod("cml-runner")["volumes"]}
    assert set(mounts) == set(volumes)
    home = image("runner").environment["HOME"]
    assert home in mounts.values()
    assert Path(image("runner").environment["CML_RUNNER_PATH"]).is_relative_to(home)
    assert {"/tmp", "/dev/shm"} <= set(mounts.values())  # noqa: S108  # folders of the container
    memory = volumes["shared-memory"]
    assert memory["medium"] == "Memory"
    limit = container("cml-runner")["resources"]["limits"]["memory"]
    assert quantity(memory["sizeLimit"]) < quantity(limit)
    assert pod("cml-runner")["securityContext"]["fsGroup"] == 10001
