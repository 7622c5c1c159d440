"""Who may send, and how much: API keys, and a token bucket for each sender."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from ..core.errors import UserError
from .refusals import RefusedError

_MOST_SENDERS = 10_000
"""Senders that are remembered; who has not sent for longest is forgotten first, with a full bucket."""


class Keys:
    """The keys of a file, of which only digests are held.

    Args:
        path: a key a line; empty lines and lines that begin with # do not count.

    Raises:
        UserError: the file cannot be read, or holds no key.
    """

    def __init__(self, path: Path) -> None:
        try:
            lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--api-keys: {path}: cannot be read: {error}") from error
        self._digests = [_digest(line) for line in lines if line and not line.startswith("#")]
        if not self._digests:
            raise UserError(f"--api-keys: {path}: holds no key; write one a line")

    def check(self, key: str | None) -> str:
        """The name by which a key's sender is counted.

        Raises:
            RefusedError: the key is missing or unknown.
        """
        digest = _digest(key or "")
        # All of them are compared, each in constant time.
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        if not key or not any(matches):
            raise RefusedError(401, "unauthorized", "the header X-API-Key is missing or unknown")
        return f"key {matches.index(True)}"


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


class Buckets:
    """A token bucket for each sender: ``rate`` tokens a second, ``burst`` of them at most.

    Args:
        rate: pictures a second; 0 is any number.
        burst: pictures at once.
        clock: seconds.
    """

    def __init__(
        self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, sender: str, pictures: int, in_debt: bool = False) -> None:
        """Take a token for each picture.

        Args:
            sender: whose bucket.
            pictures: how many.
            in_debt: whether the bucket may become less than empty, as it must where the number of
                pictures is known only after the first was let in.

        Raises:
            RefusedError: there are not so many.
        """
        if not self._rate or not pictures:
            return
        now = self._clock()
        tokens, since = self._buckets.pop(sender, (float(self._burst), now))
        tokens = min(self._burst, tokens + (now - since) * self._rate)
        allowed = in_debt or tokens >= pictures
        self._buckets[sender] = (tokens - pictures if allowed else tokens, now)
        if len(self._buckets) > _MOST_SENDERS:
            self._buckets.popitem(last=False)
        if not allowed:
            raise RefusedError(
                429,
                "rate_limited",
                f"more than {self._rate:g} pictures a second, or {self._burst} at once",
                "rate",
            )
