"""A web server that gets each event as a POST request, signed as by Standard Webhooks.

https://www.standardwebhooks.com: ``webhook-id`` is equal for each try of the same revision of an event,
``webhook-timestamp`` is the time of the try in seconds since the epoch, and ``webhook-signature`` is
``v1,`` and the Base64 of the HMAC-SHA256 over id, timestamp and body with dots between them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ssl
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path

import httpx

from ..core.program import COMMAND
from .base import Parcel
from .errors import DeliveryError, SinkError

TIMEOUT = 10.0
"""Seconds to wait for a connection, for sending, and for an answer."""
SECRET_PREFIX = "whsec_"  # noqa: S105  # it is how secrets of Standard Webhooks begin
_TRIED_AGAIN = (
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_EARLY,
    HTTPStatus.TOO_MANY_REQUESTS,
)
_MOST_READ = 2**16
"""Bytes of an answer that are read, so that its connection can be used again."""


def secret_key(secret: str) -> bytes:
    """Return the key of a secret: ``whsec_`` and Base64, or any other text as it is.

    Raises:
        SinkError: The secret is empty, or no Base64.
    """
    text = secret.strip()
    if not text:
        raise SinkError("the secret of webhooks is empty")
    if not text.startswith(SECRET_PREFIX):
        return text.encode()
    try:
        return base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        raise SinkError(
            f"the secret of webhooks begins with {SECRET_PREFIX}, but Base64 does not follow"
        ) from None


def signature(key: bytes, name: str, timestamp: int, body: bytes) -> str:
    """Return the header ``webhook-signature``.

    Args:
        key: Key that both sides know.
        name: Header ``webhook-id``.
        timestamp: Header ``webhook-timestamp``.
        body: Body of the request.
    """
    digest = hmac.new(key, f"{name}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode('ascii')}"


class Webhook:
    """A web server that gets events.

    Args:
        url: URL, http:// or https://.
        name: Name for messages.
        key: Key that stays the same from start to start.
        secret: Key of the signature; None for requests without one.
        ca_file: File of certificates to trust instead of the system's.
        timeout: Seconds to wait for each step of a request.

    Raises:
        SinkError: The URL or the file of certificates cannot be used.
    """

    def __init__(
        self,
        url: str,
        name: str,
        key: str,
        secret: bytes | None = None,
        ca_file: Path | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        self.name, self.key = name, key
        self._url, self._secret, self._timeout = url, secret, timeout
        try:
            trusted = ssl.create_default_context(cafile=ca_file) if ca_file else True
        except OSError as error:
            raise SinkError(f"{ca_file}: cannot be used as certificates: {error}") from error
        # Redirects are not followed: the secret events would go to where nobody has said.
        self._client = httpx.Client(
            timeout=timeout, verify=trusted, follow_redirects=False, headers={"User-Agent": COMMAND}
        )

    def deliver(self, parcel: Parcel) -> None:
        """Send an event.

        Raises:
            DeliveryError: It was not taken.
        """
        body = parcel.with_image()
        timestamp = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": parcel.key,
            "webhook-id": parcel.key,
            "webhook-timestamp": str(timestamp),
        }
        if self._secret is not None:
            headers["webhook-signature"] = signature(self._secret, parcel.key, timestamp, body)
        try:
            with self._client.stream("POST", self._url, content=body, headers=headers) as response:
                read, until = 0, time.monotonic() + self._timeout
                for chunk in response.iter_raw():
                    read += len(chunk)
                    if read > _MOST_READ or time.monotonic() > until:
                        break
        except httpx.TransportError as error:
            reason = str(error) or type(error).__name__
            raise DeliveryError(f"cannot be reached: {reason}") from error
        _check(response)

    def upkeep(self) -> None:
        """Do nothing: a connection is made when it is needed."""

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _check(response: httpx.Response) -> None:
    status = response.status_code
    if response.is_success:
        return
    said = f"answers {status} {response.reason_phrase}".rstrip()
    if status in _TRIED_AGAIN or response.is_server_error:
        raise DeliveryError(said, wait=_wait(response.headers.get("Retry-After", "")))
    if response.is_redirect:
        said += "; give the address that it redirects to"
    raise DeliveryError(said, is_final=True)


def _wait(value: str) -> float:
    """Return the seconds of a header ``Retry-After``: a number or a date; 0 if it is neither."""
    if value.strip().isdecimal():
        return float(value)
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    # A date without a time zone is in UTC.
    zoned = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max((zoned - datetime.now(UTC)).total_seconds(), 0.0)
