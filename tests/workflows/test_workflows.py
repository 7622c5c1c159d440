"""The workflows of GitHub: by the published schema, by rules of safety, against what they call and name."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts import fresh, transfer
from scripts.remote import KEYS

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / ".github/workflows").glob("*.y*ml"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):.*##", MAKEFILE, re.MULTILINE))
GUIDE = (ROOT / "docs/workflows.md").read_text(encoding="utf-8")
LABEL = "cml-runner-gpu"
# Images that GitHub runs, and has not said to withdraw: Ubuntu 22.04 is on its way out.
IMAGES = {"ubuntu-24.04"}
# Actions with the first major version that runs on Node.js 24; GitHub has removed those before it.
ON_NODE_24 = {
    "actions/checkout": 5,
    "actions/setup-node": 5,
    "actions/setup-python": 6,
    "actions/upload-artifact": 6,
}
EXPRESSION = re.compile(r"\$\{\{.*?\}\}", re.DOTALL)
SECRET = re.compile(r"\bsecrets\b|\bgithub\.token\b")


@dataclass(frozen=True)
class Job:
    """A job with its workflow's file and content."""

    file: str
    workflow: dict[str, Any]
    name: str
    content: dict[str, Any]

    @property
    def steps(self) -> list[dict[str, Any]]:
        return list(self.content["steps"])

    @property
    def own_machine(self) -> bool:
        return "self-hosted" in self.content["runs-on"]

    @property
    def condition(self) -> str:
        return str(self.content.get("if", ""))


def _workflows() -> dict[str, dict[str, Any]]:
    # YAML reads the key "on" as true.
    return {
        file.name: {str(key) if key is not True else "on": value for key, value in content.items()}
        for file in FILES
        for content in [yaml.safe_load(file.read_text(encoding="utf-8"))]
    }


WORKFLOWS = _workflows()
JOBS = [
    Job(file, workflow, name, content)
    for file, workflow in WORKFLOWS.items()
    for name, content in workflow["jobs"].items()
]
each_job = pytest.mark.parametrize("job", JOBS, ids=lambda job: f"{job.file}:{job.name}")


def _job(file: str, name: str) -> Job:
    return next(job for job in JOBS if (job.file, job.name) == (file, name))


def _commands(job: Job) -> Iterator[str]:
    yield from (step["run"] for step in job.steps if "run" in step)


def _targets(command: str) -> list[str]:
    """The targets that a make command calls."""
    command = re.sub(r"\w+=(\"[^\"]*\"|\S*)", "", command)
    return command.split()[1:]


def _called(job: Job) -> list[str]:
    return [
        target for command in _commands(job) if "make " in command for target in _targets(command)
    ]


def _step(job: Job, target: str) -> dict[str, Any]:
    return next(step for step in job.steps if target in _targets(step.get("run", "make")))


def _recipe(target: str) -> str:
    found = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert found, target
    return found[1]


def test_there_are_the_three() -> None:
    assert list(WORKFLOWS) == ["ci.yml", "mlops-self-hosted.yml", "mlops.yml"]


def _check_schema(*files: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema"]
    return subprocess.run(
        [*command, "vendor.github-workflows", *map(str, files)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_they_follow_the_published_schema(tmp_path: Path) -> None:
    result = _check_schema(*FILES)
    assert result.returncode == 0, result.stdout
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(FILES[0].read_text().replace("runs-on:", "runs-at:"))
    assert _check_schema(wrong).returncode != 0


@each_job
def test_every_step_is_a_command_that_people_can_call(job: Job) -> None:
    for command in _commands(job):
        assert "\n" not in command, command
        assert not EXPRESSION.search(command), f"{command}: hand it over as a variable"
        if command.startswith("make "):
            targets = _targets(command)
            assert targets
            assert set(targets) <= TARGETS, command
        else:
            found = re.fullmatch(r"python -m (src|scripts)\.(\w+)( [\w.-]+)*", command)
            assert found, f"{command}: neither a target of make nor a module"
            assert (ROOT / found[1] / f"{found[2]}.py").exists()


def test_every_script_that_a_step_calls_is_tested() -> None:
    called = " ".join(
        _recipe(target) for job in JOBS for target in _called(job) if target != "setup"
    )
    called += " ".join(command for job in JOBS for command in _commands(job))
    modules = set(re.findall(r"python -m ((?:src|scripts)[\w.]+)", called))
    assert {"scripts.fresh", "scripts.results", "scripts.transfer", "src.report"} <= modules
    for module in modules:
        name = module.rpartition(".")[2]
        assert [*(ROOT / "tests").rglob(f"test_{name}.py")], module


@each_job
def test_actions_are_pinned_and_run_on_a_node_that_github_has(job: Job) -> None:
    text = (ROOT / ".github/workflows" / job.file).read_text(encoding="utf-8")
    for step in job.steps:
        if "uses" not in step:
            continue
        action, _, commit = step["uses"].partition("@")
        assert re.fullmatch(r"[0-9a-f]{40}", commit), step["uses"]
        versions = re.findall(rf"{re.escape(step['uses'])} # v(\d+)\.\d+\.\d+$", text, re.MULTILINE)
        assert versions, f"{step['uses']}: its version is not beside it"
        assert int(versions[0]) >= ON_NODE_24[action]


def test_node_is_one_that_github_has() -> None:
    for job in JOBS:
        for step in job.steps:
            if "setup-node" in step.get("uses", ""):
                assert int(step["with"]["node-version"]) >= 24


def test_one_action_has_one_commit() -> None:
    used = {step["uses"] for job in JOBS for step in job.steps if "uses" in step}
    assert len(used) == len({item.partition("@")[0] for item in used})


@each_job
def test_permissions_are_the_least(job: Job) -> None:
    workflow = job.workflow["permissions"]
    assert workflow in ({}, {"contents": "read"}), "raise them for a job, not for all"
    permissions = job.content.get("permissions", workflow)
    writes = {name for name, level in permissions.items() if level == "write"}
    needs = set()
    if {"publish", "commit-results"} & set(_called(job)):
        needs.add("contents")
    if "comment" in _called(job):
        needs.add("pull-requests")
    if "start-checks" in _called(job):
        needs.add("actions")
    assert writes == needs
    assert set(permissions.values()) <= {"read", "write"}


@each_job
def test_the_token_stays_out_of_checkouts_that_push_nothing(job: Job) -> None:
    pushes = {"publish", "commit-results"} & set(_called(job))
    for step in job.steps:
        if "checkout" in step.get("uses", ""):
            assert bool(pushes) == step["with"].get("persist-credentials", True)


@each_job
def test_every_job_ends_and_takes_its_turn(job: Job) -> None:
    assert 0 < job.content["timeout-minutes"] <= 720
    group = job.content.get("concurrency", job.workflow.get("concurrency"))
    assert group
    assert EXPRESSION.search(group["group"]), "all branches would wait for each other"


@each_job
def test_machines_are_there(job: Job) -> None:
    machine = job.content["runs-on"]
    assert machine == ["self-hosted", LABEL] if job.own_machine else machine in IMAGES


@each_job
def test_secrets_go_to_the_steps_that_need_them_and_nowhere_else(job: Job) -> None:
    allowed = {
        "pull": {*KEYS.values()}, "remote": {*KEYS.values()}, "push": {*KEYS.values()},
            # It fetches what another machine has made. Its code is the branch's, as that of the others is.
            "repro": {*KEYS.values()},
        "comment": {"REPO_TOKEN"}, "start-checks": {"GITHUB_TOKEN"}, "allowed": {"GITHUB_TOKEN"},
    }  # fmt: skip
    assert not SECRET.search(str({**job.workflow, "jobs": None}))
    assert not SECRET.search(str({**job.content, "steps": None}))
    for step in job.steps:
        variables = step.get("env", {})
        assert not SECRET.search(str({**step, "env": None}))
        holders = {name for name, value in variables.items() if SECRET.search(str(value))}
        words = set(step.get("run", "").split())
        assert holders <= set().union(*(allowed.get(word, set()) for word in words)), step


@each_job
def test_nothing_shows_what_it_runs_with(job: Job) -> None:
    """No debugging output, no shell that repeats commands, no environment in a log."""
    text = str(job.content)
    assert not re.search(r"STEP_DEBUG|RUNNER_DEBUG|set -x|\bprintenv\b|toJSON\((secrets|env)", text)
    for target in _called(job):
        if target not in {"setup", "lint", "test", "cml", "comment"}:
            assert re.match(r"\t@", _recipe(target)), f"{target}: make would repeat its command"


@each_job
def test_nothing_that_strangers_write_is_evaluated(job: Job) -> None:
    """Titles, texts and names of a fork's branches are in no expression; a head's reference only orders."""
    chosen_by_anybody = re.compile(
        r"github\.head_ref|\.(title|body|message|email|label|default_branch|page_name)\b(?!\.name ==)"
        r"|github\.event\.pull_request\.head\.ref|\.head\.label"
    )
    for expression in EXPRESSION.findall(str(job.content)):
        assert not chosen_by_anybody.search(expression), expression


@pytest.mark.parametrize("file", list(WORKFLOWS))
def test_no_workflow_has_a_forks_code_and_secrets_together(file: str) -> None:
    events = WORKFLOWS[file]["on"]
    assert not {"pull_request_target", "workflow_run", "issue_comment"} & set(events)


def test_the_runner_of_ones_own_is_guarded() -> None:
    jobs = [job for job in JOBS if job.own_machine]
    assert [(job.file, job.name) for job in jobs] == [("mlops-self-hosted.yml", "pipeline")]
    for name in ("allowed", "pipeline"):
        condition = _job("mlops-self-hosted.yml", name).condition
        assert "github.event.pull_request.head.repo.full_name == github.repository" in condition
        assert f"github.event.label.name == '{fresh.LABEL}'" in condition
        # A condition with one of these would run though "allowed" has failed.
        assert not re.search(r"always\(|failure\(|cancelled\(|success\(", condition)
    pipeline, allowed = jobs[0], _job("mlops-self-hosted.yml", "allowed")
    assert pipeline.content["needs"] == "allowed"
    assert list(_commands(allowed)) == ["python -m scripts.github allowed"]
    assert "continue-on-error" not in str(allowed.content)
    assert "base.sha" in allowed.steps[0]["with"]["ref"], "the head's code would judge itself"
    assert pipeline.workflow["on"] == {
        "workflow_dispatch": None,
        "pull_request": {"types": ["labeled"]},
    }
    assert pipeline.workflow["concurrency"]["cancel-in-progress"] is False


def test_the_labels_are_those_of_the_runners() -> None:
    starter = (ROOT / "docker/runner.sh").read_text(encoding="utf-8")
    assert re.findall(r"--labels=(\S+)", starter) == [LABEL]
    assert f"`{LABEL}`" in (ROOT / "docs/runner.md").read_text(encoding="utf-8")


def test_cml_is_one_version_everywhere() -> None:
    version = re.search(r"^CML_VERSION := (\S+)$", MAKEFILE, re.MULTILINE)
    assert version
    assert version[1] == "0.20.6"
    for file in ("docker/runner.Dockerfile", "docs/runner.md", "Makefile"):
        named = re.findall(
            r"@dvcorg/cml@(\d[\d.]*\d)|cml --version\)\" = (\d\S*)", (ROOT / file).read_text()
        )
        assert {number for pair in named for number in pair if number} <= {version[1]}, file
    for job in JOBS:
        if "comment" in _called(job):
            assert _called(job).index("cml") < _called(job).index("comment")


@pytest.mark.parametrize("there", ["0.20.6", "0.20.5", ""])
def test_make_cml_installs_that_version_where_it_is_not(tmp_path: Path, there: str) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements.txt").touch()
    programs = {"uv": "", "npm": "echo npm $@", "cml": f"echo {there}" if there else "exit 127"}
    (tmp_path / ".venv/bin").mkdir(parents=True)
    for name, body in programs.items():
        program = tmp_path / ".venv/bin" / name
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
    result = subprocess.run(
        ["make", "cml"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    installed = "npm install --global --prefix .venv --ignore-scripts @dvcorg/cml@0.20.6\n"
    assert result.stdout == ("" if there == "0.20.6" else installed)


def test_the_pipeline_runs_from_data_to_comment() -> None:
    job = _job("mlops-self-hosted.yml", "pipeline")
    assert _called(job) == [
        "setup", "cml", "remote", "pull", "repro", "push", "commit-results", "start-checks", "report",
        "fresh", "publish", "comment",
    ]  # fmt: skip
    # The first run of all finds nothing to pull.
    assert "--partial" in _step(job, "pull")["run"]
    assert "head.sha" in job.steps[0]["with"]["ref"]
    assert job.steps[0]["with"]["fetch-depth"] == 0, "without main there is nothing to compare with"
    assert _step(job, "start-checks")["if"] == (
        "${{ !cancelled() && steps.results.outputs.committed == 'true' }}"
    )
    assert _step(job, "commit-results")["id"] == "results"
    # What is started can be.
    for file in _recipe("start-checks").split("start ")[1].split():
        assert "workflow_dispatch" in WORKFLOWS[file]["on"]
    assert set(_recipe("start-checks").split("start ")[1].split()) == {"ci.yml", "mlops.yml"}


def test_the_report_is_published_even_if_the_lock_is_stale() -> None:
    job = _job("mlops.yml", "report")
    called = _called(job)
    assert called == [
        "setup",
        "cml",
        "pull",
        "report",
        "fresh",
        "publish",
        "comment",
        "comment",
        "pull",
    ]
    # Data that were not pushed keep the report from nobody, and the job from success.
    first, last = (step for step in job.steps if "pull" in _targets(step.get("run", "make")))
    assert first["continue-on-error"] is True
    assert last["if"] == "${{ !cancelled() && steps.data.outcome == 'failure' }}"
    assert last["run"] == first["run"]
    assert "--accept-parameters" in _step(job, "fresh")["run"]
    assert "--into report/report.md" in _step(job, "fresh")["run"]
    assert _step(job, "report")["id"] == "report"
    publish = _step(job, "publish")
    assert publish["id"] == "publish"
    for part in ("!cancelled()", "steps.report.outcome == 'success'", "env.TRUSTED == 'true'"):
        assert part in publish["if"]
    comments = [step for step in job.steps if "comment" in _targets(step.get("run", "make"))]
    assert all("steps.publish.outcome == 'success'" in step["if"] for step in comments)
    # Also where mlops-self-hosted.yml has started it, on the commit of its results.
    assert [(step["if"].split("&& ")[-1], step["run"]) for step in comments] == [
        ("github.event_name != 'push' }}", "make comment"),
        ("github.event_name == 'push' }}", "make comment ARGS=--target=commit"),
    ]


def test_who_gets_no_token_publishes_nothing() -> None:
    trusted = _job("mlops.yml", "report").content["env"]["TRUSTED"]
    assert "head.repo.full_name == github.repository" in trusted
    assert "github.actor != 'dependabot[bot]'" in trusted


def test_the_stages_that_are_pulled_exist() -> None:
    command = _step(_job("mlops.yml", "report"), "pull")["run"]
    stages = re.search(r'ARGS="([^"]*)"', command)
    assert stages
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    assert set(stages[1].split()) <= set(pipeline["stages"])


def test_checks_run_on_push_and_pull_request() -> None:
    job = _job("ci.yml", "check")
    assert _called(job) == ["setup", "lint", "test"]
    assert {"push", "pull_request"} <= set(job.workflow["on"])
    assert "branches" not in job.workflow["on"]["push"]
    assert WORKFLOWS["mlops.yml"]["on"]["push"] == {"branches": ["main"]}
    assert WORKFLOWS["mlops.yml"]["on"]["pull_request"] is None


def test_the_guide_names_every_variable_secret_label_and_workflow() -> None:
    text = "".join(file.read_text(encoding="utf-8") for file in FILES)
    named = set(re.findall(r"(?:vars|secrets)\.(\w+)", text))
    assert named == {
        *KEYS.values(), "AWS_DEFAULT_REGION", "DVC_REMOTE_URL", "DVC_REMOTE_ENDPOINT",
    }  # fmt: skip
    for name in (*named, *WORKFLOWS, fresh.LABEL, LABEL):
        assert f"`{name}`" in GUIDE, name


@pytest.mark.parametrize("name", ["workflows.md", "remote.md"])
def test_the_guides_name_targets_and_files_that_there_are(name: str) -> None:
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    code = re.findall(r"^make .*$|`(make [^`]+)`", text, re.MULTILINE)
    lines = re.findall(r"^make .*$", text, re.MULTILINE) + [line for line in code if line]
    assert lines
    for line in lines:
        targets = {word for word in _targets(line.split("#")[0]) if re.fullmatch(r"[a-z-]+", word)}
        assert targets
        assert targets <= TARGETS, line
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / "docs" / link).exists(), link


def test_the_guide_to_remotes_names_what_compose_starts() -> None:
    text = (ROOT / "docs/remote.md").read_text(encoding="utf-8")
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    service = yaml.safe_load(compose)["services"]["s3"]
    assert "docker-compose --profile s3 up --detach s3" in text
    assert service["profiles"] == ["s3"]
    assert {"MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"} == set(service["environment"])
    assert all(f"{name}=" in text for name in service["environment"])
    bucket = re.search(r"URL=s3://(\w+)/\S* ENDPOINT=http://127\.0\.0\.1:(\d+)", text)
    assert bucket
    assert f"/data/{bucket[1]}" in str(service["command"])
    assert f"127.0.0.1:{bucket[2]}:{bucket[2]}" in service["ports"]


def test_pull_and_push_are_what_the_targets_call() -> None:
    for command in ("pull", "push"):
        assert f"{transfer.__name__} {command}" in _recipe(command)
