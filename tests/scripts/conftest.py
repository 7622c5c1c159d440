"""A small DVC project, and an S3 on loopback that looks at credentials."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PIPELINE = """\
stages:
  prepare:
    cmd: python code/prepare.py
    deps: [code/prepare.py]
    params:
      - params.py: [PrepareParams]
    outs: [data]
  train:
    cmd: python code/train.py
    deps: [code/train.py, data]
    params: [rate]
    outs: [model.txt]
  evaluate:
    cmd: python code/evaluate.py
    deps: [code/evaluate.py, data/val, model.txt]
    outs:
      - results:
          cache: false
  publish:
    cmd: python code/publish.py
    deps: [code/publish.py, results]
    outs: [published.json]
"""
CODE = {
    "prepare": """\
from pathlib import Path
from params import PrepareParams
for split in ("train", "val"):
    folder = Path("data", split)
    folder.mkdir(parents=True)
    for index in range(PrepareParams.COUNT):
        (folder / f"{index}.txt").write_text(f"{split} {index}\\n" * 500)
""",
    "train": """\
from pathlib import Path
Path("model.txt").write_text(f"{len(list(Path('data/train').iterdir()))}\\n")
""",
    "evaluate": """\
from pathlib import Path
Path("results").mkdir()
Path("results/metrics.json").write_text('{"read": ' + Path("model.txt").read_text() + "}")
""",
    "publish": """\
from pathlib import Path
Path("published.json").write_bytes(Path("results/metrics.json").read_bytes())
""",
}


def environment(**others: str) -> dict[str, str]:
    """Of commands in another project: this Python first, these scripts, a name for Git."""
    identity = {f"GIT_{role}_NAME": "Test" for role in ("AUTHOR", "COMMITTER")}
    identity |= {f"GIT_{role}_EMAIL": "test@localhost" for role in ("AUTHOR", "COMMITTER")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, **identity, "PATH": path, "PYTHONPATH": f".{os.pathsep}{ROOT}", **others}


def call(folder: Path, *command: str, **others: str) -> str:
    """Run a command that has to pass; its standard output."""
    done = subprocess.run(
        command, cwd=folder, env=environment(**others), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def _finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    (folder / "code").mkdir()
    for name, text in CODE.items():
        (folder / "code" / f"{name}.py").write_text(text)
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "params.yaml").write_text("rate: 0.1\n")
    (folder / "params.py").write_text("class PrepareParams:\n    COUNT: int = 20\n")
    call(folder, "git", "init", "-q", "-b", "main")
    call(folder, "dvc", "init", "-q")
    call(folder, "dvc", "config", "core.analytics", "false")
    call(folder, "dvc", "repro", "-q")
    call(folder, "git", "add", "-A")
    call(folder, "git", "commit", "-qm", "Start")
    return folder


@pytest.fixture
def project(_finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone of a project of four stages that have run, data and cache included; current folder."""
    folder = tmp_path / "project"
    shutil.copytree(_finished, folder, symlinks=True)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that no workflow and no cloud has set variables in."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "GITHUB_", "DVC_", "GOOGLE_")):
            monkeypatch.delenv(name)
    # Where no credentials are, a machine of Amazon's is asked for some.
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    empty = tmp_path / "empty"
    empty.touch()
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(empty))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(empty))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@dataclass
class S3:
    """An S3 server that checks signatures, and a user that it knows.

    Attributes:
        url: its address.
        keys: the user's, as variables of the environment.
        bucket: that is empty at first.
        client: of the user.
    """

    url: str
    keys: dict[str, str]
    client: Any
    bucket: str = field(default_factory=lambda: f"plates-{uuid.uuid4().hex[:8]}")

    def objects(self) -> list[str]:
        """Names of all objects in the bucket."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]


@pytest.fixture
def s3(s3_server: tuple[str, dict[str, str]], plain: None, monkeypatch: pytest.MonkeyPatch) -> S3:
    """The server with an empty bucket; its user's keys are in the environment."""
    import boto3

    url, keys = s3_server
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    server = S3(url, keys, boto3.client("s3", endpoint_url=url))
    server.client.create_bucket(Bucket=server.bucket)
    return server
