"""kubernetes/ray-job.yml: valid, restricted, and in agreement with the image, the packages and the page.

The definition of RayJob is in no package. So its few fields that are used are listed here, as a closed schema
after KubeRay's ray-operator/apis/ray/v1 (1.5), and the pod templates in it are checked as Kubernetes' own.
"""

from __future__ import annotations

import copy
import importlib
import re
import shlex
from typing import Any

import jsonschema
import pytest
from packaging.requirements import Requirement

from src.read import __main__ as read
from src.search import __main__ as search
from src.search import train
from tests.deploy.dockerfiles import ROOT, documents, image, shell_lines
from tests.deploy.test_kubernetes import quantity, validate

PATH = ROOT / "kubernetes" / "ray-job.yml"
(JOB,) = documents(PATH)
CLUSTER = JOB["spec"]["rayClusterSpec"]
TEMPLATES = {
    "submitter": JOB["spec"]["submitterPodTemplate"],
    "head": CLUSTER["headGroupSpec"]["template"],
    **{group["groupName"]: group["template"] for group in CLUSTER["workerGroupSpecs"]},
}


def closed(required: list[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


TEXT, FLAG, COUNT = {"type": "string"}, {"type": "boolean"}, {"type": "integer", "minimum": 0}
TEXTS, ANY = {"type": "object", "additionalProperties": TEXT}, {"type": "object"}
SCHEMA = closed(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=closed([], name=TEXT, generateName=TEXT, labels=TEXTS),
    spec=closed(
        ["entrypoint", "rayClusterSpec"],
        entrypoint=TEXT,
        backoffLimit=COUNT,
        shutdownAfterJobFinishes=FLAG,
        ttlSecondsAfterFinished=COUNT,
        submitterPodTemplate=ANY,
        rayClusterSpec=closed(
            ["headGroupSpec"],
            rayVersion=TEXT,
            authOptions=closed(["mode"], mode={"enum": ["token", "disabled"]}),
            enableInTreeAutoscaling=FLAG,
            autoscalerOptions=closed(
                [],
                version={"enum": ["v1", "v2"]},
                idleTimeoutSeconds=COUNT,
                securityContext=ANY,
                resources=ANY,
            ),
            headGroupSpec=closed(
                ["rayStartParams", "template"], rayStartParams=TEXTS, template=ANY
            ),
            workerGroupSpecs={
                "type": "array",
                "items": closed(
                    ["groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"],
                    groupName=TEXT,
                    replicas=COUNT,
                    minReplicas=COUNT,
                    maxReplicas=COUNT,
                    rayStartParams=TEXTS,
                    template=ANY,
                ),
            },
        ),
    ),
)


def check(job: dict[str, Any]) -> None:
    jsonschema.validate(job, SCHEMA)


def check_template(template: dict[str, Any]) -> None:
    name = {"metadata": {"name": "x"}}
    validate({"apiVersion": "v1", "kind": "PodTemplate", **name, "template": template})


def container(name: str) -> dict[str, Any]:
    (only,) = TEMPLATES[name]["spec"]["containers"]
    return only


def test_the_job_has_kuberays_fields() -> None:
    check(JOB)


@pytest.mark.parametrize(
    "place", [(), ("spec",), ("spec", "rayClusterSpec"), ("spec", "rayClusterSpec", "authOptions")]
)
def test_the_schema_finds_a_mistake(place: tuple[str, ...]) -> None:
    wrong = copy.deepcopy(JOB)
    part = wrong
    for name in place:
        part = part[name]
    part["mistake"] = 1
    with pytest.raises(jsonschema.ValidationError):
        check(wrong)


def test_numbers_of_ray_are_texts() -> None:
    wrong = copy.deepcopy(JOB)
    wrong["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0
    with pytest.raises(jsonschema.ValidationError):
        check(wrong)


@pytest.mark.parametrize("name", TEMPLATES)
def test_pods_fit_the_schemas_of_kubernetes(name: str) -> None:
    check_template(TEMPLATES[name])
    wrong = copy.deepcopy(TEMPLATES[name])
    wrong["spec"]["mistake"] = 1
    with pytest.raises(Exception, match="mistake"):
        check_template(wrong)


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_pod_security_standard_is_the_restricted_one(name: str) -> None:
    spec = TEMPLATES[name]["spec"]
    security = spec["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    uid, gid = image("ray").last("USER").split(":")
    assert (str(security["runAsUser"]), str(security["runAsGroup"])) == (uid, gid)
    assert container(name)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    # The autoscaler beside the head asks Kubernetes for nodes.
    assert spec.get("automountServiceAccountToken", True) is (name == "head")
    autoscaler = CLUSTER["autoscalerOptions"]["securityContext"]
    assert autoscaler == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_is_written_has_a_place(name: str) -> None:
    mounts = {each["mountPath"]: each["name"] for each in container(name)["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in TEMPLATES[name]["spec"]["volumes"]}
    assert set(mounts.values()) == set(volumes)
    assert volumes[mounts[image("ray").environment["HOME"]]]["emptyDir"] == {}
    if name != "submitter":
        claim = volumes[mounts["/workspace"]]["persistentVolumeClaim"]
        assert claim == {"claimName": "plates"}
        assert TEMPLATES[name]["spec"]["securityContext"]["fsGroup"] == 10001


@pytest.mark.parametrize("name", TEMPLATES)
def test_requests_are_within_limits(name: str) -> None:
    resources = container(name)["resources"]
    assert {"cpu", "memory"} <= set(resources["requests"])
    for resource, limit in resources["limits"].items():
        requested = resources["requests"][resource].replace("100m", "0.1")
        assert quantity(requested) <= quantity(limit)
    assert "memory" in resources["limits"]


def test_the_head_does_no_work_and_has_room() -> None:
    assert CLUSTER["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert quantity(container("head")["resources"]["limits"]["memory"]) >= quantity("4Gi")


def test_workers_come_when_they_are_needed_and_leave_with_the_job() -> None:
    assert CLUSTER["enableInTreeAutoscaling"] is True
    for group in CLUSTER["workerGroupSpecs"]:
        assert group["replicas"] == group["minReplicas"] == 0 < group["maxReplicas"]
        # Ray takes its cores from the limit.
        assert "cpu" in group["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert JOB["spec"]["shutdownAfterJobFinishes"] is True
    # A container that starts again within its pod is another node to Ray.
    assert {template["spec"]["restartPolicy"] for template in TEMPLATES.values()} == {"Never"}


def test_the_cluster_asks_for_a_token() -> None:
    assert CLUSTER["authOptions"] == {"mode": "token"}


def test_all_run_the_same_image_with_the_same_ray() -> None:
    (name,) = {container(each)["image"] for each in TEMPLATES}
    page = " ".join(shell_lines(ROOT / "docs" / "cluster.md"))
    assert re.findall(r"docker build -f (\S+) -t (\S+) ", page) == [("docker/ray.Dockerfile", name)]
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()[1:]
    (ray,) = [each for each in map(Requirement, lines) if each.name == "ray"]
    assert str(ray.specifier) == f"=={CLUSTER['rayVersion']}"


def test_the_entrypoints_exist() -> None:
    """That of the file, and those of its first comment."""
    comments = re.findall(r"^#   (.+)$", PATH.read_text("utf-8"), re.MULTILINE)
    prefix = ["env", "-C", "/workspace"]
    words = shlex.split(JOB["spec"]["entrypoint"])
    assert words[:3] == prefix
    # The submitter hands the words on: a shell would be another one than meant.
    assert not set("&|;<>$") & set(JOB["spec"]["entrypoint"])
    commands = [words[3:], *map(shlex.split, comments)]
    parsers = {"src.search.train": train, "src.search": search, "src.read": read}
    seen = set()
    for words in commands:
        if words[0] == "dvc":
            (pipeline,) = documents(ROOT / "dvc.yaml")
            assert set(words[2:]) <= set(pipeline["stages"])
            seen.add("prepare")
            continue
        assert words[:2] == ["python", "-m"]
        importlib.import_module(words[2])
        parsers[words[2]].parse(words[3:])
        seen.add(words[2])
    assert seen == {"prepare", *parsers}
