"""Images that an HTTP server gives: what a URL holds, and snapshots that are polled."""

from __future__ import annotations

import time
from http.client import HTTPException
from typing import Literal
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import (
    HTTPBasicAuthHandler,
    HTTPDigestAuthHandler,
    HTTPPasswordMgrWithDefaultRealm,
    OpenerDirector,
    build_opener,
)

import cv2
import numpy as np

from ..core.images import Pixels
from .sources import EndingError, SourceError, is_video, without_credentials

TIMEOUT = 5.0
"""Seconds after which an answer is given up."""
_LARGEST = 64 * 2**20
"""Maximum number of bytes of a snapshot."""


class HttpClient:
    """Client of one URL, with the user name and password in it.

    Args:
        url: URL with the scheme http or https.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._shown = without_credentials(url)
        self._url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        passwords = HTTPPasswordMgrWithDefaultRealm()
        if parts.username is not None:
            passwords.add_password(
                None, self._url, unquote(parts.username), unquote(parts.password or "")
            )
        # Cameras ask for either.
        self._opener: OpenerDirector = build_opener(
            HTTPBasicAuthHandler(passwords), HTTPDigestAuthHandler(passwords)
        )

    def kind(self) -> Literal["snapshot", "stream"]:
        """Return whether the URL holds a single image; what else there is, FFmpeg may read.

        Raises:
            EndingError: It is a video file, which ends.
            SourceError: There is no answer, or one that is an error.
        """
        try:
            with self._opener.open(self._url, timeout=TIMEOUT) as answer:
                kind: str = answer.headers.get_content_type()
                is_ending = "Content-Length" in answer.headers
        except (OSError, HTTPException) as error:
            raise SourceError(f"{self._shown}: {_explained(error)}") from error
        if is_ending and (kind.startswith("video/") or is_video(urlsplit(self._url).path)):
            raise EndingError(
                f"{self._shown}: is a video file, not a stream: download it, and watch the file"
            )
        return "snapshot" if kind.startswith("image/") else "stream"

    def image(self) -> Pixels:
        """Return the image as ``(H, W, 3)`` BGR.

        Raises:
            SourceError: There is no answer, or one that is no image.
        """
        try:
            with self._opener.open(self._url, timeout=TIMEOUT) as answer:
                content = answer.read(_LARGEST)
        except (OSError, HTTPException) as error:
            raise SourceError(f"{self._shown}: {_explained(error)}") from error
        image = (
            cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
        )
        if image is None:
            raise SourceError(f"{self._shown}: the answer is no image")
        return np.asarray(image, np.uint8)


class SnapshotCamera:
    """A camera that gives single images.

    Args:
        client: Client of its URL.
        interval: Seconds between two images.
    """

    def __init__(self, client: HttpClient, interval: float) -> None:
        self._client, self._interval = client, interval
        self._due = time.monotonic()

    def read(self) -> Pixels:
        """Return the next image ``(H, W, 3)`` BGR when it is due.

        Raises:
            SourceError: There is none.
        """
        time.sleep(max(self._due - time.monotonic(), 0))
        self._due = max(self._due + self._interval, time.monotonic())
        return self._client.image()

    def close(self) -> None:
        """Do nothing: each image has a connection of its own."""


def _explained(error: OSError | HTTPException) -> str:
    if isinstance(error, HTTPError):
        return f"the server answers {error.code} {error.reason}"
    return (
        f"cannot be reached: {getattr(error, 'reason', None) or str(error) or type(error).__name__}"
    )
