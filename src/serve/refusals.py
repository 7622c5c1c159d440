"""Why a request is refused: a status, a word for programs, a sentence for people."""

from __future__ import annotations

from starlette.responses import JSONResponse

RETRY_AFTER = "1"
"""Seconds: what is full now has room again in less."""
FEEDBACK_OFF = "feedback_off"
"""The one 503 that waiting does not fix."""


class RefusedError(Exception):
    """A request, or one of its pictures, is refused.

    Args:
        status: of HTTP.
        code: the reason in a word, as it is counted by /metrics too.
        message: what is wrong and what is allowed.
        limit: the setting that says what is allowed, if one does.
    """

    def __init__(self, status: int, code: str, message: str, limit: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.limit = status, code, message, limit

    def content(self) -> dict[str, str | None]:
        """As it stands in an answer."""
        return {"code": self.code, "message": self.message, "limit": self.limit}

    def headers(self) -> dict[str, str]:
        """That the answer has."""
        if self.status in (429, 503) and self.code != FEEDBACK_OFF:
            return {"Retry-After": RETRY_AFTER}
        if self.status in (408, 413):
            # What is left of the body is not waited for.
            return {"Connection": "close"}
        return {"WWW-Authenticate": "ApiKey"} if self.status == 401 else {}

    def response(self) -> JSONResponse:
        """The answer to a request that is refused as a whole."""
        return JSONResponse({"error": self.content()}, self.status, self.headers())


def overloaded() -> RefusedError:
    """More pictures wait than may."""
    return RefusedError(503, "queue_full", "too many pictures are waiting; try again", "queue")


def late() -> RefusedError:
    """A request was not answered in time."""
    return RefusedError(
        503, "deadline", "the picture could not be read in time; try again", "deadline_s"
    )


def draining() -> RefusedError:
    """The server is about to stop."""
    return RefusedError(503, "draining", "the server is stopping; try again")


def feedback_off() -> RefusedError:
    """Nothing is kept that feedback could be given on."""
    return RefusedError(503, FEEDBACK_OFF, "this server keeps nothing (--feedback)", "feedback")
