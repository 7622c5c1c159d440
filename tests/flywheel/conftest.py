"""A store on either database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from src.flywheel.store import Store
from tests.flywheel.databases import Cluster, cluster


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    with cluster() as server:
        yield server


@pytest.fixture(autouse=True)
def _quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    # Where others write much, each costs a second, and no test here cuts the power.
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a new database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/feedback.db"
    cluster: Cluster = request.getfixturevalue("postgres")
    return cluster.new_url()


@pytest.fixture
def store(url: str, tmp_path: Path) -> Iterator[Store]:
    opened = Store(url, tmp_path / "pictures", days=90)
    yield opened
    opened.close()
