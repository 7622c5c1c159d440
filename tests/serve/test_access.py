"""API keys and token buckets."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

import pytest

from src.core.errors import UserError
from src.serve.access import Buckets, Keys, client_network
from src.serve.refusals import RefusedError
from tests.serving import write_keys


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_keys_are_those_whose_hashes_are_in_the_file(tmp_path: Path) -> None:
    path = write_keys(tmp_path / "keys", "first-key", "clé")
    with path.open("a") as file:
        file.write(f"# of the garage\n\nsha256:{hashlib.sha256(b'third').hexdigest().upper()}\n")
    assert "first-key" not in path.read_text()
    keys = Keys(path)
    assert keys.check("first-key") == "key 0"
    # Clients send UTF-8, and servers decode headers as Latin-1.
    assert keys.check("clé".encode().decode("latin-1")) == "key 1"
    assert keys.check("third") == "key 2"
    stored = path.read_text().split()[0]
    digits = stored.removeprefix("sha256:")
    for wrong in (
        "fourth-key",
        "first-ke",
        "first-key ",
        "",
        None,
        "# of the garage",
        stored,
        digits,
    ):
        with pytest.raises(RefusedError) as caught:
            keys.check(wrong)
        assert caught.value.status == 401


def test_comparisons_take_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append(b)
        return a == b

    monkeypatch.setattr("hmac.compare_digest", compare)
    keys = Keys(write_keys(tmp_path / "keys", "a", "b", "c"))
    # With every hash, whichever one fits.
    for key in "abc":
        keys.check(key)
        assert len(compared) == len(set(compared)) == 3
        compared.clear()


@pytest.mark.parametrize("content", [None, b"", b"# nothing\n\n", b"\xff\xfe\x00"])
def test_a_file_without_keys_is_an_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="--api-keys"):
        Keys(path)


@pytest.mark.parametrize(
    "line",
    [
        "open-sesame",
        # A key of hexadecimal digits, which looks like a hash; `openssl rand -hex 32` makes such.
        "0123456789abcdef" * 4,
        "sha256:" + "0" * 63,
        "sha256:" + "0" * 65,
        "sha256:" + "x" * 64,
        "sha256: " + "0" * 64,
    ],
)
def test_a_key_that_is_not_hashed_is_refused_and_not_shown(tmp_path: Path, line: str) -> None:
    path = write_keys(tmp_path / "keys", "first-key")
    with path.open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(UserError, match=r"line 2 .*`sha256:` and .*sha256sum") as caught:
        Keys(path)
    assert line not in str(caught.value)


def test_the_lines_of_the_guide_write_a_key(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "serve.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```sh\n(key=.*?)```", page, re.DOTALL)
    command = ["sh", "-euc", block.split("\npython")[0] + '\nprintf %s "$key"']
    printed = [
        subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert printed[0] != printed[1]
    keys = Keys(tmp_path / "keys")
    for number, key in enumerate(printed):
        assert len(key) >= 32
        assert keys.check(key) == f"key {number}"


@pytest.mark.parametrize(
    ("host", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2::7", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::7", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", "unknown"),
        ("somebody", "unknown"),
        ("1" * 30_000, "unknown"),
    ],
)
def test_clients_are_counted_by_what_they_cannot_choose(host: str, counted: str) -> None:
    assert client_network(host) == counted


def test_a_bucket_empties_and_fills() -> None:
    clock = Clock()
    buckets = Buckets(rate=2.0, burst=3, clock=clock)
    for _ in range(3):
        buckets.take("a", 1)
    with pytest.raises(RefusedError) as caught:
        buckets.take("a", 1)
    assert (caught.value.status, caught.value.code) == (429, "rate_limited")
    assert caught.value.headers() == {"Retry-After": "1"}
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
    with pytest.raises(RefusedError) as caught:
        buckets.take("a", 1)
    assert caught.value.headers() == {"Retry-After": "5"}
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
