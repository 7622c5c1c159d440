"""API keys and token buckets."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.core.errors import UserError
from src.serve.access import Buckets, Keys
from src.serve.refusals import RefusedError


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_keys_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# of the garage\nfirst-key\n\n  second-key  \n", encoding="utf-8")
    keys = Keys(path)
    assert keys.check("first-key") == "key 0"
    assert keys.check("second-key") == "key 1"
    for wrong in ("third-key", "first-ke", "first-key ", "", None, "# of the garage"):
        with pytest.raises(RefusedError) as caught:
            keys.check(wrong)
        assert caught.value.status == 401


@pytest.mark.parametrize("content", [None, b"", b"# nothing\n\n", b"\xff\xfe\x00"])
def test_a_file_without_keys_is_an_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="--api-keys"):
        Keys(path)


def test_a_bucket_empties_and_fills() -> None:
    clock = Clock()
    buckets = Buckets(rate=2.0, burst=3, clock=clock)
    for _ in range(3):
        buckets.take("a", 1)
    with pytest.raises(RefusedError) as caught:
        buckets.take("a", 1)
    assert (caught.value.status, caught.value.code) == (429, "rate_limited")
    buckets.take("b", 1)
    clock.now += 0.5
    buckets.take("a", 1)
    with pytest.raises(RefusedError):
        buckets.take("a", 1)
    clock.now += 60
    for _ in range(3):
        buckets.take("a", 1)
    with pytest.raises(RefusedError):
        buckets.take("a", 1)


def test_images_that_are_in_already_are_owed() -> None:
    clock = Clock()
    buckets = Buckets(rate=1.0, burst=2, clock=clock)
    buckets.take("a", 1)
    buckets.take("a", 5, in_debt=True)
    clock.now += 4
    with pytest.raises(RefusedError):
        buckets.take("a", 1)
    clock.now += 1
    buckets.take("a", 1)


def test_without_a_rate_nothing_is_counted() -> None:
    buckets = Buckets(rate=0.0, burst=1)
    for _ in range(100):
        buckets.take("a", 100)


def test_senders_are_forgotten_some_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.serve.access._MOST_SENDERS", 3)
    buckets = Buckets(rate=1e-9, burst=1, clock=Clock())
    for sender in "abcd":
        buckets.take(sender, 1)
    buckets.take("a", 1)  # It was forgotten, and has a full bucket again.
    with pytest.raises(RefusedError):
        buckets.take("d", 1)
