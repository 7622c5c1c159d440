"""HTTP routes for feedback on an image that was read, and for deleting the image."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Depends, Request
from pydantic import ValidationError

from ..flywheel.corrections import Correction
from ..flywheel.errors import CorrectionError, UnknownEntryError
from .access import Buckets
from .refusals import RefusedError, feedback_off
from .schemas import ErrorAnswer, GivenFeedback, StoredFeedback

if TYPE_CHECKING:
    from .recorder import Recorder

_UNKNOWN: dict[int | str, dict[str, Any]] = {
    404: {"description": "no image has this id, or the image has no such plate"}
}
_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"description": "the body is not valid JSON"},
    401: {"description": "the API key is missing or unknown"},
    408: {"description": "the body did not arrive in time"},
    413: {"description": "the body is too large"},
    415: {"description": "the content type is not application/json"},
    422: {"description": "the text violates the plate grammar, or the feedback contradicts itself"},
    429: {"description": "the sender exceeds the rate limit"},
    503: {"description": "the server stores nothing, or the store fails"},
}
for _refusal in (*_UNKNOWN.values(), *_REFUSALS.values()):
    _refusal["model"] = ErrorAnswer
_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": GivenFeedback.model_json_schema()}},
    }
}


def routes(
    recorder: Recorder | None, buckets: Buckets, sender: Callable[[Request], Awaitable[str]]
) -> APIRouter:
    """Return the router of the feedback routes.

    Args:
        recorder: Recorder that stores the feedback; None where nothing is kept.
        buckets: Token buckets of the senders, in which feedback counts as an image.
        sender: Dependency that checks who sends the request.
    """
    router = APIRouter(tags=["feedback"])

    def recording() -> Recorder:
        if recorder is None:
            raise feedback_off()
        return recorder

    async def admit(who: str = Depends(sender)) -> None:
        recording()
        buckets.take(who, 1)

    @router.post(
        "/v1/feedback",
        summary="Give feedback on a plate or an image",
        status_code=201,
        responses=_UNKNOWN | _REFUSALS,
        openapi_extra=_BODY,
        dependencies=[Depends(admit)],
    )
    async def give(request: Request) -> StoredFeedback:
        """The response is sent once the feedback is on disk. The latest feedback counts."""
        given = await _given(request)
        corners = None if given.corners is None else tuple(given.corners)
        correction = Correction(given.text, corners, given.lines)
        try:
            stored = await recording().add_feedback(
                given.id, given.plate, given.verdict, correction, request.state.deadline
            )
        except UnknownEntryError as error:
            raise _unknown(error) from error
        except CorrectionError as error:
            raise RefusedError(422, "invalid_feedback", str(error)) from error
        return StoredFeedback(
            id=stored.picture_id,
            plate=stored.plate,
            verdict=given.verdict,
            text=stored.text,
            corners=given.corners,
            lines=stored.lines,
            created=stored.created,
        )

    @router.delete(
        "/v1/feedback/{image}",
        summary="Delete a stored image",
        status_code=204,
        responses=_UNKNOWN | {status: _REFUSALS[status] for status in (401, 429, 503)},
        dependencies=[Depends(admit)],
    )
    async def delete(image: str, request: Request) -> None:
        """Delete an image with its files, its predictions and all feedback on it."""
        try:
            await recording().delete(image, request.state.deadline)
        except UnknownEntryError as error:
            raise _unknown(error) from error

    return router


async def _given(request: Request) -> GivenFeedback:
    # Another site's page could send a form, but JSON only after the browser has asked (CORS preflight).
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json":
        raise RefusedError(415, "unsupported_media_type", "send JSON as application/json")
    try:
        return GivenFeedback.model_validate_json(await request.body())
    except ValidationError as error:
        item = error.errors()[0]
        if item["type"] == "json_invalid":
            raise RefusedError(400, "bad_json", item["msg"]) from None
        name = ".".join(str(part) for part in item["loc"])
        raise RefusedError(422, "invalid_feedback", f"{name}: {item['msg']}") from None


def _unknown(error: UnknownEntryError) -> RefusedError:
    return RefusedError(404, "unknown_id", str(error))
