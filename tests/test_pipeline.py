"""The pipeline, end to end: the README's smoke command in a fresh clone, and what DVC then knows.

All tests of a run share one run. They use the commands that people use.
"""

from __future__ import annotations

import filecmp
import json
import os
import re
import resource
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from src.config import load_config
from tests.conftest import PARAMETERS, set_params, set_texts

ROOT = Path(__file__).resolve().parents[1]
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
PATHS = yaml.safe_load((PARAMETERS / "params.yaml").read_text(encoding="utf-8"))
STAGES = list(PIPELINE["stages"])
SMOKE_SECONDS = 180
IDLE_LOAD = 0.5
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def _resolved(text: str) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda match: str(PATHS[match[1]]), text)


@dataclass(frozen=True)
class Run:
    """A clone in which the smoke command has been run.

    Attributes:
        folder: the clone.
        cpu_seconds: time of all its processes on the processor.
        wall_seconds: from its start to its end.
        load: the machine's average of the minute before it.
        name: of the experiment.
    """

    folder: Path
    environment: dict[str, str]
    cpu_seconds: float
    wall_seconds: float
    load: float
    name: str

    def __call__(self, *command: str, cwd: Path | None = None, status: int = 0) -> str:
        """Run a command in the clone; its standard output."""
        result = subprocess.run(
            command, cwd=cwd or self.folder, env=self.environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert result.returncode == status, f"{command}\n{result.stdout}\n{result.stderr}"
        return result.stdout

    def would_run(self) -> set[str]:
        """The stages that ``dvc repro`` would run now, and those after them."""
        output = self("dvc", "repro", "--dry", "--force-downstream")
        return set(re.findall(r"Running stage '(\w+)'", output))

    @contextmanager
    def changed(self, file: str, old: str, new: str) -> Iterator[None]:
        """A file of the clone, changed for a while."""
        path = self.folder / file
        text = path.read_text(encoding="utf-8")
        after = re.sub(old, new, text, count=1, flags=re.MULTILINE)
        assert after != text, f"{file}: {old!r} is not there, or is {new!r} already"
        path.write_text(after, encoding="utf-8")
        try:
            yield
        finally:
            path.write_text(text, encoding="utf-8")


def smoke_command() -> list[str]:
    """The smoke command as it stands in the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    command = re.search(
        r"^dvc exp run -S \"params\.py:MULTIPROCESSING=False\"(.*\\\n)*.*$", text, re.MULTILINE
    )
    assert command is not None
    return shlex.split(command[0].replace("\\\n", " "))


def _copy_tree(target: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    base = tmp_path_factory.mktemp("pipeline")
    folder, home = base / "clone", base / "home"
    folder.mkdir()
    home.mkdir()
    _copy_tree(folder)
    # What a run has left in the workspace must change nothing here.
    for name in ("params.py", "params.yaml"):
        shutil.copy(PARAMETERS / name, folder)
    environment = {
        **{
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("GIT_", "DVC_"))
        },
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        # A fresh machine: no settings, and Git knows nobody's name.
        "HOME": str(home),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    # Named, so that `make run` records nothing else and the tests fetch nothing.
    source = "procedural"
    if root := environment.get("CIFAR10_ROOT"):
        source, environment["CIFAR10_ROOT"] = "cifar10", str(Path(root).resolve())
    set_texts(folder, "source: auto", f"source: {source}")
    identity = ["-c", "user.name=Test", "-c", "user.email=test@localhost"]
    for command in (
        ["init", "-q", "-b", "main"],
        ["add", "-A"],
        [*identity, "commit", "-qm", "Start"],
    ):
        subprocess.run(["git", *command], cwd=folder, env=environment, check=True)
    load, start = os.getloadavg()[0], time.monotonic()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run(
        smoke_command(), cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall = time.monotonic() - start
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-5000:]
    name = re.search(r"Ran experiment\(s\): (\S+)", result.stdout)
    assert name is not None
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(folder, environment, cpu, wall, load, name[1])


def test_the_smoke_run_ends_within_three_minutes_on_two_cores(
    run: Run, capsys: pytest.CaptureFixture[str], record_property: Callable[[str, object], None]
) -> None:
    record_property("smoke_wall_seconds", round(run.wall_seconds, 1))
    record_property("smoke_cpu_seconds", round(run.cpu_seconds, 1))
    with capsys.disabled():
        print(
            f"\nsmoke run: {run.wall_seconds:.0f} s, {run.cpu_seconds:.0f} s of them on processors"
            f" (load before: {run.load:.2f})"
        )
    # Time on the processor, as other processes may keep the cores busy.
    assert run.cpu_seconds < 2 * SMOKE_SECONDS
    # Time on the clock says something only where nothing else ran when it began. Even there
    # something may have begun meanwhile, so that the bound is a generous one: it finds a run that
    # waits instead of working.
    if run.load < IDLE_LOAD:
        assert run.wall_seconds < 1.5 * SMOKE_SECONDS


def test_a_run_leaves_its_parameters_and_results(run: Run) -> None:
    params = (run.folder / "params.py").read_text()
    assert "MULTIPROCESSING: bool = False" in params
    assert params.count("MAX_IMAGES: int = 256") == 3
    for task in ("localize", "ocr"):
        assert (run.folder / f"out/models/{task}/model.safetensors").stat().st_size > 1000
        assert list((run.folder / f"out/runs/{task}/tensorboard").rglob("events.out.tfevents.*"))
    for task in ("localize", "ocr", "stack"):
        images = {
            path.name for path in (run.folder / f"out/prepared/{task}/plots/images").iterdir()
        }
        assert {f"sample_{i}.png" for i in range(5)} <= images
        images = {p.name for p in (run.folder / f"out/evaluations/{task}/plots/images").iterdir()}
        prefix = "stack_pred" if task == "stack" else "pred"
        assert {f"{prefix}_{i}.png" for i in range(10)} <= images
    metrics = json.loads((run.folder / "out/evaluations/stack/metrics.json").read_text())
    assert 0 <= metrics["val_acc"] <= 1


def test_nothing_is_left_to_do_after_a_run(run: Run) -> None:
    assert json.loads(run("dvc", "status", "--json")) == {}
    assert "Running stage" not in run("dvc", "repro")


STACK_SEED = r"(class EvaluateStackParams:\n    SEED: int = )\d+"
STACK = {"export_stack", "evaluate_stack", "check_stack"}
TRAINED_LOCALIZER = {
    f"{what}_localize" for what in ("train", "evaluate", "finetune", "check")
} | STACK
TRAINED_READER = {f"{what}_ocr" for what in ("train", "evaluate", "finetune", "check")} | STACK


@pytest.mark.parametrize(
    ("file", "old", "new", "stages"),
    [
        (
            "params.py",
            STACK_SEED,
            r"\g<1>7",
            {"evaluate_stack"},
        ),
        (
            "params.py",
            r"(class TrainOCRParams:\n.*\n    LR: float = )\S+",
            rf"\g<1>{load_config(PARAMETERS).TrainOCRParams.LR / 2}",
            TRAINED_READER,
        ),
        (
            "params.py",
            r"(class PrepareLocalizeParams:\n    SEED: int = )\d+",
            r"\g<1>7",
            {"prepare_localize"} | TRAINED_LOCALIZER,
        ),
        ("params.py", r"MULTIPROCESSING: bool = False", "MULTIPROCESSING: bool = True", set()),
        ("params.yaml", r"recognizer: crnn", "recognizer: plate_ocr_v2", TRAINED_READER),
        (
            "params.yaml",
            r"precision: auto",
            "precision: 32-true",
            TRAINED_LOCALIZER | TRAINED_READER,
        ),
        # That each stage depends on the code that it imports is tested without DVC, in test_dvc_yaml.py.
        ("src/models/registry.py", r"\Z", "# changed\n", TRAINED_LOCALIZER | TRAINED_READER),
        ("src/config/__init__.py", r"\Z", "# changed\n", set()),
    ],
    ids=lambda value: value if isinstance(value, str) and "/" in value else None,
)
def test_a_change_makes_again_what_depends_on_it_and_nothing_else(
    run: Run, file: str, old: str, new: str, stages: set[str]
) -> None:
    with run.changed(file, old, new):
        assert run.would_run() == stages


def test_a_changed_parameter_runs_its_stage_alone(run: Run, tmp_path: Path) -> None:
    results = run.folder / "out/evaluations/stack"
    shutil.copytree(results, tmp_path / "results")
    shutil.copy(run.folder / "dvc.lock", tmp_path)
    with run.changed("params.py", STACK_SEED, r"\g<1>8"):
        output = run("dvc", "repro")
        assert re.findall(r"Running stage '(\w+)'", output) == ["evaluate_stack"]
        assert run.would_run() == set()
    # As it was, for the other tests.
    shutil.rmtree(results)
    shutil.copytree(tmp_path / "results", results)
    shutil.copy(tmp_path / "dvc.lock", run.folder)
    assert run.would_run() == set()


def _kill_the_training(folder: Path, environment: dict[str, str]) -> None:
    """``dvc repro``, whose training is killed as soon as it has written a checkpoint."""
    last = folder / "out/checkpoints/localize/last.ckpt"
    assert not last.exists()
    with subprocess.Popen(
        REPRO, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as dvc:
        deadline = time.monotonic() + 120
        while not last.exists():
            assert dvc.poll() is None, "dvc repro has ended before the first checkpoint"
            assert time.monotonic() < deadline, "no checkpoint within two minutes"
            time.sleep(0.01)
        for process in psutil.Process(dvc.pid).children(recursive=True):
            process.kill()
        assert dvc.wait(60) != 0
    assert last.exists()


REPRO = ["dvc", "repro", "train_localize"]
# Many short steps with a checkpoint after each fourth: there is time to kill, and much to resume.
LONG_TRAINING = {
    "LocalizeModelParams.PLATE_NET_CHANNELS": [8] * 8,
    "TrainLocalizeParams.EPOCHS": 30,
    "TrainLocalizeParams.VALIDATE_EVERY": 4,
    "TrainLocalizeParams.PATIENCE": 1000,
}


def test_a_killed_training_goes_on_at_the_next_repro(run: Run, tmp_path: Path) -> None:
    """DVC deletes the outputs of a stage before it runs, but not those with ``persist: true``."""
    clone = tmp_path / "clone"
    shutil.copytree(run.folder, clone, symlinks=True)
    set_params(clone, LONG_TRAINING)
    _kill_the_training(clone, run.environment)
    resumed = subprocess.run(
        REPRO, cwd=clone, env=run.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, check=False,
    )  # fmt: skip
    assert resumed.returncode == 0, resumed.stdout
    step = re.search(r"last\.ckpt: resumed at step (\d+)", resumed.stdout)
    assert step is not None, resumed.stdout
    assert int(step[1]) > 0
    # The curve is whole: what was before the kill, and what came after it.
    curve = (clone / "out/runs/localize/plots/metrics/val/iou.tsv").read_text().splitlines()
    steps = [int(line.split("\t")[curve[0].split("\t").index("step")]) for line in curve[1:]]
    assert steps[0] == 4
    assert len(steps) == len(set(steps))
    assert steps[-1] > int(step[1])


def test_a_wrong_parameter_ends_with_one_clear_message(run: Run) -> None:
    command = PIPELINE["stages"]["evaluate_stack"]["cmd"].split()
    with run.changed("params.py", STACK_SEED, r"\g<1>-1"):
        result = subprocess.run(
            command,
            cwd=run.folder,
            env=run.environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert result.returncode == 1
    assert "error: params.py: EvaluateStackParams.SEED" in result.stderr
    assert "Traceback" not in result.stdout + result.stderr


def test_dvc_shows_the_experiment(run: Run) -> None:
    shown = json.loads(run("dvc", "exp", "show", "--json"))
    experiments = [item for baseline in shown for item in baseline["experiments"] or []]
    revision = next(rev for item in experiments if item["name"] == run.name for rev in item["revs"])
    params = revision["data"]["params"]["params.py"]["data"]
    assert params["PrepareOCRParams"]["MAX_IMAGES"] == 256
    metrics = revision["data"]["metrics"]
    assert 0 <= metrics["out/evaluations/stack/metrics.json"]["data"]["val_acc"] <= 1
    assert run.name in run("dvc", "exp", "list", "--name-only")


def test_dvc_shows_metrics_and_the_graph(run: Run) -> None:
    metrics = json.loads(run("dvc", "metrics", "show", "--json"))[""]["data"]
    assert set(metrics) == {_resolved(path) for path in PIPELINE["metrics"]}
    assert all("data" in entry for entry in metrics.values())
    graph = run("dvc", "dag", "--md")
    assert all(stage in graph for stage in STAGES)


def _has_rows(run: Run, settings: dict[str, Any] | None) -> bool:
    tables = [name for name in (settings or {}).get("y", {}) if name.endswith(".csv")]
    return not tables or any(
        len((run.folder / _resolved(name)).read_text(encoding="utf-8").splitlines()) > 1
        for name in tables
    )


# Both draw the same plots; the whole list is asked of each.
@pytest.mark.parametrize("command", ["show", "diff"])
def test_dvc_draws_every_plot(run: Run, tmp_path: Path, command: str) -> None:
    result = subprocess.run(
        ["dvc", "plots", command, "--out", str(tmp_path)], cwd=run.folder, env=run.environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    if command == "show":
        # The commit before has no results, so that a difference may lack some.
        assert "failed to load" not in result.stderr
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    for plot in PIPELINE["plots"]:
        name, settings = next(iter(plot.items())) if isinstance(plot, dict) else (plot, None)
        if command == "show" and name.startswith("stack_") and not _has_rows(run, settings):
            continue  # A network after a few steps may find nothing: of nothing there is no curve.
        if settings and "title" in settings:
            assert settings["title"] in page.replace("\\u0027", "'"), f"{name} is not drawn"
    assert page.count("<img") >= 3 * 5 + 3 * 10


def test_a_grid_is_queued_and_run(run: Run, tmp_path: Path) -> None:
    """Each experiment in a copy of its own, while stages that have not changed come from the cache."""
    clone = tmp_path / "clone"
    shutil.copytree(run.folder, clone, symlinks=True)

    def dvc(*arguments: str) -> str:
        done = subprocess.run(
            ["dvc", *arguments], cwd=clone, env=run.environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    # What is queued is a commit of somebody.
    for key in ("user.name", "user.email"):
        subprocess.run(["git", "config", key, "test@localhost"], cwd=clone, check=True)
    queued = dvc("exp", "run", "--queue", "-S", "params.py:EvaluateStackParams.SEED=1,2")
    assert queued.count("Queued experiment") == 2
    assert dvc("queue", "status").count("Queued") == 2
    dvc("queue", "start")
    try:
        for _ in range(240):
            status = dvc("queue", "status")
            if "Running" not in status and "Queued" not in status:
                break
            time.sleep(2)
    finally:
        dvc("queue", "stop")
    assert status.count("Success") == 2, status
    shown = json.loads(dvc("exp", "show", "--json"))
    seeds = {
        revision["data"]["params"]["params.py"]["data"]["EvaluateStackParams"]["SEED"]
        for baseline in shown
        for item in baseline["experiments"] or []
        for revision in item["revs"]
        if revision["data"]["metrics"]["out/evaluations/stack/metrics.json"].get("data")
    }
    assert {1, 2} <= seeds


def test_a_copy_of_the_workspace_runs_its_own_code(run: Run) -> None:
    """An experiment runs in a copy: what it imports is the copy's, whatever the folder is called."""
    function = r"^(def main\(config: Config\) -> None:)$"
    # The copy is of a commit of somebody.
    identity = {
        f"GIT_{role}_{what}": "test@localhost"
        for role in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    with run.changed("src/stack/prepare.py", function, r'\1\n    raise SystemExit("the copy")'):
        result = subprocess.run(
            ["dvc", "exp", "run", "--temp", "--single-item", "prepare_stack"],
            cwd=run.folder, env={**run.environment, **identity},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert result.returncode != 0
    assert "the copy" in result.stderr + result.stdout


def test_an_experiment_becomes_a_branch(run: Run) -> None:
    run("dvc", "exp", "branch", run.name, "an-experiment")
    assert "an-experiment" in run("git", "branch", "--list")
    assert "out/evaluations/stack/metrics.json" in run(
        "git", "ls-tree", "-r", "--name-only", "an-experiment"
    )


def test_pushed_data_make_a_clone_complete(run: Run, tmp_path: Path) -> None:
    """Push to a folder, clone the experiment's branch, pull: nothing is left to do there either."""
    remote, clone = tmp_path / "remote", tmp_path / "clone"
    run("dvc", "exp", "branch", run.name, "pushed")
    run("dvc", "remote", "add", "--default", "--local", "here", str(remote))
    try:
        run("dvc", "push")
        assert any((remote / "files" / "md5").iterdir())
        run("git", "clone", "-q", "-b", "pushed", str(run.folder), str(clone))
        run("dvc", "remote", "add", "--default", "--local", "here", str(remote), cwd=clone)
        run("dvc", "pull", cwd=clone)
        assert json.loads(run("dvc", "status", "--json", cwd=clone)) == {}
        assert (clone / "out/models/ocr/model.safetensors").exists()
    finally:
        run("dvc", "remote", "remove", "--local", "here")


def test_reset_restores_the_committed_state(run: Run, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    shutil.copytree(run.folder, clone, symlinks=True)
    (clone / "notes.txt").write_text("the user's own")
    (clone / "out" / "notes.txt").write_text("the user's own")
    (clone / "out/evaluations/notes.txt").write_text("among the results")
    run("git", "add", "params.py", cwd=clone)
    output = run("python", "-m", "scripts.reset", cwd=clone)
    assert "params.py" in output
    assert "out/evaluations/notes.txt" in output
    assert (
        run("git", "status", "--short", "--", "params.py", "dvc.lock", "out/evaluations", cwd=clone)
        == ""
    )
    assert (clone / "notes.txt").exists()
    assert (clone / "out" / "notes.txt").exists()
    assert not (clone / "out/evaluations/notes.txt").exists()
    # The command that it names undoes it: results that Git did not know are back too.
    undo = re.search(r"To undo this, run `(.+?)`", output)
    assert undo is not None
    subprocess.run(undo[1], shell=True, cwd=clone, env=run.environment, check=True)  # noqa: S602  # our own text
    assert "MULTIPROCESSING: bool = False" in (clone / "params.py").read_text()
    for path in ("out/evaluations/notes.txt", "dvc.lock", "out/models/ocr/model.safetensors"):
        assert (clone / path).read_bytes() == (
            b"among the results" if path.endswith("txt") else (run.folder / path).read_bytes()
        )
    for path in (run.folder / "out/evaluations").rglob("*.*"):
        assert (clone / path.relative_to(run.folder)).read_bytes() == path.read_bytes()


# Those that read parameters, results or what lies in the root, but for the trainings.
_STATEFUL = [
    "tests/bench", "tests/flywheel/test_prepare.py", "tests/generators", "tests/localize/test_evaluate.py",
    "tests/models/test_registry.py", "tests/quality/test_stages.py", "tests/scripts/test_make.py",
    "tests/scripts/test_run.py", "tests/stack/test_evaluate.py", "tests/config/test_config.py",
    "tests/test_fetch_backgrounds.py", "tests/test_params.py", "tests/test_readme.py",
]  # fmt: skip


def test_the_tests_pass_after_a_run(run: Run, tmp_path: Path) -> None:
    """A run changes params.py, params.yaml, dvc.lock and out/; here SIGINT is ignored, as under nohup."""
    clone = tmp_path / "clone"
    shutil.copytree(run.folder, clone, symlinks=True)
    done = subprocess.run(
        ["python", "-m", "scripts.run", "smoke"], cwd=clone, env=run.environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert re.search(r"^  evaluate_stack +\d+ +\d+$", done.stdout, re.MULTILINE)
    for name in ("params.py", "dvc.lock", "out/evaluations/stack/metrics.json"):
        assert not filecmp.cmp(clone / name, ROOT / name, shallow=False), f"{name} is unchanged"
    tests = shlex.join(["python", "-m", "pytest", "-q", "-m", "not slow", *_STATEFUL])
    done = subprocess.run(
        ["sh", "-c", f"trap '' INT; exec {tests}"], cwd=clone, env=run.environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:]


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310  # our own localhost
        return json.load(response)


def test_tensorboard_serves_both_trainings(run: Run) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    logs = "localize:out/runs/localize/tensorboard,ocr:out/runs/ocr/tensorboard"
    command = ["tensorboard", f"--logdir_spec={logs}", "--port", str(port), "--load_fast=false"]
    with subprocess.Popen(
        command,
        cwd=run.folder,
        env=run.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            runs: list[str] = []
            deadline = time.monotonic() + 60
            while len(runs) < 2 and time.monotonic() < deadline:
                assert server.poll() is None, "tensorboard has ended"
                time.sleep(0.5)
                try:
                    runs = _get(f"http://127.0.0.1:{port}/data/runs")
                except OSError:
                    continue
            assert {name.split("/")[0] for name in runs} == {"localize", "ocr"}
            tags = _get(f"http://127.0.0.1:{port}/data/plugin/scalars/tags")
            assert sum(len(of_run) for of_run in tags.values()) >= 4
        finally:
            server.terminate()
