"""A workspace without results, a bundle that knows what to say, and a store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st

from src.flywheel.store import Store
from tests.bundles import write_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("dashboard") / "bundle")


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, where the dashboard is started without a store or a server."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("PLATES_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PLATES_MODEL", str(bundle))
    # Nobody listens there.
    monkeypatch.setenv("PLATES_SERVER", "http://127.0.0.1:9")
    # Where others write much, each costs a second, and no test here cuts the power.
    monkeypatch.setattr("os.fsync", lambda _: None)
    st.cache_data.clear()
    return tmp_path


@pytest.fixture
def store(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """The store that the dashboard is told to use."""
    url = f"sqlite:///{workspace}/feedback.db"
    monkeypatch.setenv("PLATES_FEEDBACK", url)
    opened = Store(url)
    yield opened
    opened.close()
