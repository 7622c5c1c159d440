"""Connecting to a cluster: what is said where there is none. What a cluster does is in test_cluster.py."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from src.engine import ray_cluster
from src.engine.ray_cluster import ClusterError, connect

ROOT = Path(__file__).parents[2]


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError, match=r"pip install 'swiss-plates\[cluster\]'"):
        connect("auto")


@pytest.mark.parametrize("variable", [False, True])
def test_a_head_that_does_not_run_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch, variable: bool
) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unheard.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address if variable else "127.0.0.1:1")
        with pytest.raises(ClusterError, match=f"no Ray cluster answers at {address}"):
            connect("auto" if variable else address)


@pytest.mark.parametrize("kind", ["no cluster", "no token"])
def test_a_cluster_that_refuses_is_told(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    import ray

    def refuse(**_: object) -> None:
        if kind == "no cluster":
            raise ConnectionError("Could not find any running Ray instance.")
        raise ray.exceptions.AuthenticationError("no authentication token was found")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(ClusterError, match=r"ray start --head.*RAY_AUTH_TOKEN"):
        connect("auto")


@pytest.mark.parametrize("address", ["head", "head:", ":6379", "head:port", "ray://head:10001"])
def test_an_address_of_another_kind_is_told(address: str) -> None:
    with pytest.raises(ClusterError, match=r"cluster: expected auto or host:port.*ray job submit"):
        connect(address)


def test_only_the_owner_reads_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tmp_path / "auth_token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    ray_cluster._protect_token()
    assert not token.exists()
    token.write_text("secret")
    token.chmod(0o644)
    ray_cluster._protect_token()
    assert stat.S_IMODE(token.stat().st_mode) == 0o600


def test_the_engine_imports_no_ray_until_it_connects() -> None:
    code = "import sys, src.engine.ray_cluster; sys.exit('ray' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)
