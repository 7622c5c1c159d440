"""Reasons to refuse a request: an HTTP status, a code for programs and a message for people."""

from __future__ import annotations

import math

from starlette.responses import JSONResponse

_RETRY_AFTER_S = 1.0
"""Seconds after which to try again; a full queue has room again sooner."""
FEEDBACK_OFF = "feedback_off"
"""Code of the only 503 response that waiting does not resolve."""
CLIPS_OFF = "clips_off"
TOO_MANY_CONNECTIONS = "too_many_connections"
UNSUPPORTED_ENCODING = "unsupported_encoding"


class RefusedError(Exception):
    """A request, or one of its images, is refused.

    Args:
        status: HTTP status.
        code: Reason in one word, which /metrics also counts by.
        message: Description of what is wrong and what is allowed.
        limit: Name of the setting that defines what is allowed, if there is one.
        retry_after_s: Seconds after which to try again, for the statuses 429 and 503.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        limit: str | None = None,
        retry_after_s: float = _RETRY_AFTER_S,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.limit = status, code, message, limit
        self.retry_after_s = retry_after_s

    def content(self) -> dict[str, str | None]:
        """Return the error as it appears in a response."""
        return {"code": self.code, "message": self.message, "limit": self.limit}

    def headers(self) -> dict[str, str]:
        """Return the additional headers of the response."""
        if self.status in (429, 503) and self.code != FEEDBACK_OFF:
            headers = {"Retry-After": str(math.ceil(self.retry_after_s))}
            return headers | ({"Connection": "close"} if self.code == TOO_MANY_CONNECTIONS else {})
        if self.status in (408, 413):
            # The server does not wait for the rest of the body.
            return {"Connection": "close"}
        if self.code == UNSUPPORTED_ENCODING:
            # RFC 9110, section 15.5.16: it tells a 415 for the encoding from one for the media type.
            return {"Accept-Encoding": "identity"}
        return {"WWW-Authenticate": "ApiKey"} if self.status == 401 else {}

    def response(self) -> JSONResponse:
        """Return the response to a request that is refused as a whole."""
        return JSONResponse({"error": self.content()}, self.status, self.headers())


def overloaded() -> RefusedError:
    """Return the refusal for images that the queue has no room for."""
    return RefusedError(503, "queue_full", "too many images are waiting; try again", "queue")


def crowded() -> RefusedError:
    """Return the refusal for requests on more connections than are allowed."""
    return RefusedError(
        503,
        TOO_MANY_CONNECTIONS,
        "too many connections are open; try again",
        "max_connections",
    )


def clips_off(reason: str) -> RefusedError:
    """Return the refusal of clips by a server that cannot read them, or is not to."""
    return RefusedError(501, CLIPS_OFF, f"this server reads no clips: {reason}", "max_clips")


def crowded_by_clips() -> RefusedError:
    """Return the refusal for a clip that there is no room for."""
    return RefusedError(
        503, "clips_full", "too many clips are being read; try again", "max_clips", 10.0
    )


def late_clip() -> RefusedError:
    """Return the refusal for a clip that was not read in time."""
    return RefusedError(
        503, "deadline", "the clip could not be read in time; try again", "clip_deadline_s", 10.0
    )


def late() -> RefusedError:
    """Return the refusal for a request that was not answered in time."""
    return RefusedError(
        503, "deadline", "the image could not be read in time; try again", "deadline_s"
    )


def draining() -> RefusedError:
    """Return the refusal for requests to a server that is stopping."""
    return RefusedError(503, "draining", "the server is stopping; try again")


def internal(message: str) -> RefusedError:
    """Return the refusal for what a bug in this program has made fail; the log has the error."""
    return RefusedError(500, "internal", message)


def feedback_off() -> RefusedError:
    """Return the refusal of feedback by a server that keeps no images."""
    return RefusedError(
        503, FEEDBACK_OFF, "this server stores no feedback (--feedback is not set)", "feedback"
    )


def unsupported_encoding(encoding: str) -> RefusedError:
    """Return the refusal of content that is compressed or otherwise encoded, named as the client does."""
    return RefusedError(
        415,
        UNSUPPORTED_ENCODING,
        f"the encoding {encoding[:40]!r} is not supported; send the content as it is, "
        "without Content-Encoding",
    )
