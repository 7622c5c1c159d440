"""Access control: API keys, and rate limits by a token bucket for each sender."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from ..core.errors import UserError
from .refusals import RefusedError

_MOST_SENDERS = 10_000
"""Maximum number of senders that are remembered.

The sender that was inactive for longest is forgotten first, and would start again with a full bucket.
"""
_HASH = re.compile(r"sha256:([0-9a-fA-F]{64})(\s.*)?")
"""SHA-256 of a key, and a remark. The prefix tells a hash from a key of 64 hexadecimal digits."""

_NETWORK_BITS = 64
"""Bits of an IPv6 address that name a network; a client may choose the others (RFC 4291, section 2.5.1)."""


def client_network(host: str) -> str:
    """Return the address under which a client is counted: of IPv6, its network, all of which it may use.

    Args:
        host: Address of the client, as a proxy may have reported it. What is no address counts as
            "unknown", or each such text would count as another client.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        own_bits = address.max_prefixlen - _NETWORK_BITS
        return str(ipaddress.IPv6Network((int(address) >> own_bits << own_bits, _NETWORK_BITS)))
    return str(address)


class Keys:
    """The hashes of API keys in a file.

    Keys are random, so that a plain SHA-256 is enough: a slow hash protects what can be guessed.

    Args:
        path: File with one line per key: ``sha256:``, the SHA-256 of the key in hexadecimal, and after a
            space a remark. Empty lines and lines that begin with # are ignored.

    Raises:
        UserError: The file cannot be read, contains no key, or has a line that is no hash.
    """

    def __init__(self, path: Path) -> None:
        try:
            lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--api-keys: {path}: cannot be read: {error}") from error
        self._digests: list[bytes] = []
        for number, line in enumerate(lines, 1):
            if not line or line.startswith("#"):
                continue
            found = _HASH.fullmatch(line)
            if found is None:
                # It may be a key, so it is not shown.
                raise UserError(
                    f"--api-keys: {path}: line {number} is not the hash of a key, which is `sha256:` and "
                    "64 hexadecimal digits. If the line is a key, replace it by what "
                    '`echo "sha256:$(printf %s KEY | sha256sum)"` prints; if it is a hash without its '
                    "prefix, add that"
                )
            self._digests.append(bytes.fromhex(found[1]))
        if not self._digests:
            raise UserError(
                f"--api-keys: {path}: contains no key; write `sha256:` and the SHA-256 of one key per line"
            )

    def check(self, key: str | None) -> str:
        """Check a key and return the name under which its sender is counted.

        Args:
            key: Value of the header, as ASGI servers decode it (Latin-1).

        Raises:
            RefusedError: The key is missing or unknown.
        """
        digest = hashlib.sha256((key or "").encode("latin-1")).digest()
        # Compare with all of them, each in constant time.
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        if not key or not any(matches):
            raise RefusedError(
                401, "unauthorized", "the header X-API-Key is missing or has an unknown key"
            )
        return f"key {matches.index(True)}"


class Buckets:
    """A token bucket for each sender, refilled at ``rate`` tokens per second up to ``burst``.

    Args:
        rate: Number of images per second; 0 means no limit.
        burst: Maximum number of images at once.
        clock: Function that returns the time in seconds.
    """

    def __init__(
        self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, sender: str, images: int, in_debt: bool = False) -> None:
        """Take one token per image from a sender's bucket.

        Args:
            sender: Name of the sender.
            images: Number of images.
            in_debt: Whether the number of tokens may become negative. This is needed where the number of
                images is known only after the first one was admitted.

        Raises:
            RefusedError: The bucket has too few tokens.
        """
        if not self._rate or not images:
            return
        now = self._clock()
        tokens, since = self._buckets.pop(sender, (float(self._burst), now))
        tokens = min(self._burst, tokens + (now - since) * self._rate)
        allowed = in_debt or tokens >= images
        self._buckets[sender] = (tokens - images if allowed else tokens, now)
        if len(self._buckets) > _MOST_SENDERS:
            self._buckets.popitem(last=False)
        if not allowed:
            raise RefusedError(
                429,
                "rate_limited",
                f"rate limit exceeded: {self._rate:g} images per second, at most {self._burst} at once",
                "rate",
                (images - tokens) / self._rate,
            )
