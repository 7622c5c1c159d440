"""HTTP routes for reading images, the bundle's manifest, health, metrics and the web page."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from ..core.images import UPLOAD_FORMATS, UPLOAD_SUFFIXES, listed
from ..video.sources import VIDEO_SUFFIXES
from . import clips, feedback
from .access import Buckets, Keys, client_network
from .clips import Clips
from .engine import Answer, Engine
from .guard import Guard
from .measures import Measures
from .refusals import RefusedError, late
from .schemas import BestPlate, ErrorAnswer, ErrorContent, Result, Results
from .settings import Settings
from .uploads import Upload, disconnected, read_uploads

if TYPE_CHECKING:
    from .recorder import Recorder

PAGE = Path(__file__).parent / "page"

_GONE = 499
"""Nginx's status for a request whose client has disconnected; only the log and metrics show it."""
_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"description": "the form or image is damaged, or there is no file"},
    401: {"description": "the API key is missing or unknown"},
    408: {"description": "the body did not arrive in time"},
    413: {"description": "the body or image is too large, or there are too many files"},
    415: {"description": f"the image is not of the format {listed(UPLOAD_FORMATS)}"},
    429: {"description": "the sender exceeds the rate limit"},
    431: {"description": "the headers are too large"},
    503: {"description": "the server is starting, stopping, overloaded or too slow; try again"},
}
_CLIP_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"description": "the form is damaged, or there is no clip"},
    401: _REFUSALS[401],
    408: {"description": "the clip did not arrive in time"},
    413: {"description": "the clip or its frames are too large, or it is too long"},
    415: {"description": "the file is no video of a format that FFmpeg reads"},
    422: {"description": "the clip has no frame that can be decoded"},
    429: _REFUSALS[429],
    431: _REFUSALS[431],
    501: {"description": "this server reads no clips"},
    503: {
        "description": "the server is starting or stopping, or has no room for a clip; try again"
    },
}
for _refusal in (*_REFUSALS.values(), *_CLIP_REFUSALS.values()):
    _refusal["model"] = ErrorAnswer
_IMAGE_TYPES = [f"image/{kind}" for kind in ("jpeg", "png", "webp", "heic", "avif", "jp2")]
_CLIP_TYPES = [f"video/{kind}" for kind in ("mp4", "quicktime", "x-matroska", "webm", "x-msvideo")]
_FILE = {"type": "string", "format": "binary"}

log = logging.getLogger("plates")


def _body(field: str, schema: dict[str, Any], raw: Sequence[str] = ()) -> dict[str, Any]:
    """Return the OpenAPI description of bodies that are a form, or a file of one of the types."""
    form = {"type": "object", "properties": {field: schema}, "required": [field]}
    content: dict[str, Any] = {"multipart/form-data": {"schema": form}}
    if raw:
        content |= {kind: {"schema": _FILE} for kind in (*raw, "application/octet-stream")}
    return {"requestBody": {"required": True, "content": content}}


def create_app(
    settings: Settings, on_failure: Callable[[BaseException], None] = lambda _: None
) -> FastAPI:
    """Create the application; ``app.state.engine`` is the engine that reads images.

    Args:
        settings: Settings of the server.
        on_failure: Callback that receives the error if the engine cannot be started.

    Raises:
        UserError: The file of API keys or the feedback store cannot be used.
    """
    measures = Measures()
    engine = Engine(settings, measures)
    keys = Keys(settings.api_keys) if settings.api_keys else None
    recorder = _recorder(settings, measures)
    buckets = Buckets(settings.rate, settings.burst)

    # Async, because FastAPI would run a plain function in a thread pool at each request.
    async def sender(request: Request) -> str:
        """Return the key or address under which the images of a request are counted."""
        if keys is not None:
            return keys.check(request.headers.get("x-api-key"))
        return client_network(request.client.host if request.client else "")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # Start in the background, so that /livez and /readyz respond meanwhile.
        starting = asyncio.create_task(engine.start())
        starting.add_done_callback(
            lambda task: on_failure(error) if (error := task.exception()) else None
        )
        if recorder is not None:
            recorder.start()
        yield
        with suppress(Exception):
            await starting
        await engine.stop()
        if recorder is not None:
            await recorder.stop(settings.grace_s)

    app = FastAPI(
        title="Swiss Plate Reader",
        version="1",
        description="Finds and reads Swiss number plates in photographs and clips.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.engine, app.state.measures = engine, measures
    app.include_router(_reading(settings, engine, measures, recorder, buckets, sender))
    of_clips = Clips(settings, engine, measures)
    app.include_router(
        clips.routes(of_clips, buckets, sender, _CLIP_REFUSALS, _body("file", _FILE, _CLIP_TYPES))
    )
    app.include_router(feedback.routes(recorder, buckets, sender))
    app.include_router(_status(engine, measures, sender))
    app.add_api_route("/", partial(_index, _index_text(settings)), include_in_schema=False)
    app.add_api_route("/docs", _docs, include_in_schema=False)
    app.mount("/page", StaticFiles(directory=PAGE))
    app.mount("/swagger", StaticFiles(packages=[("fastapi_offline", "static")]))
    _add_handlers(app, measures)
    app.add_middleware(Guard, settings=settings, engine=engine, measures=measures)
    return app


def _recorder(settings: Settings, measures: Measures) -> Recorder | None:
    """Return the recorder, or None, without importing a database, where nothing is kept."""
    if settings.feedback_url is None:
        return None
    from ..flywheel.store import Store
    from .recorder import Recorder

    store = Store(
        settings.feedback_url,
        settings.feedback_pictures,
        settings.feedback_days,
        settings.max_feedback,
    )
    log.info("images and readings are stored for %d days: %s", settings.feedback_days, store.name)
    return Recorder(store, measures)


def _reading(
    settings: Settings,
    engine: Engine,
    measures: Measures,
    recorder: Recorder | None,
    buckets: Buckets,
    sender: Callable[[Request], Awaitable[str]],
) -> APIRouter:
    """Return the router of the routes that accept images."""
    router = APIRouter(tags=["reading"])

    async def admitted(request: Request, who: str = Depends(sender)) -> str:
        """Return the sender if they may send one more image and the queue has room for it."""
        engine.check_room(1)
        buckets.take(who, 1)
        return who

    async def read(
        request: Request, uploads: Sequence[Upload], with_preview: bool = False
    ) -> list[Answer | RefusedError]:
        contents = [upload.content for upload in uploads]
        futures = engine.submit(contents, request.state.deadline, with_preview)
        return await _answers(request, futures)

    def keep(upload: Upload, answer: Answer) -> str | None:
        return None if recorder is None else recorder.keep(upload.content, answer)

    @router.post(
        "/predict",
        summary="Read the most confident plate in an image",
        responses=_REFUSALS,
        openapi_extra=_body("file", _FILE),
        dependencies=[Depends(admitted)],
    )
    async def predict(request: Request, response: Response) -> BestPlate:
        """Send a form with one image in the field `file`, as to MLEM's server.

        If the server stores the image, the response header X-Picture-ID has its id.
        """
        uploads = [each for each in await read_uploads(request, settings) if each.field == "file"]
        if len(uploads) != 1:
            raise RefusedError(400, "no_file", "send a form with one image in the field `file`")
        (answer,) = await read(request, uploads)
        if isinstance(answer, RefusedError):
            raise answer
        if entry := keep(uploads[0], answer):
            response.headers["X-Picture-ID"] = entry
        return BestPlate.of(answer.plates)

    @router.post(
        "/v1/read",
        summary="Read all plates in one or more images",
        responses=_REFUSALS,
        openapi_extra=_body("files", {"type": "array", "items": _FILE}, _IMAGE_TYPES),
        response_model_exclude_unset=True,
    )
    async def read_all(
        request: Request, response: Response, who: str = Depends(admitted), preview: bool = False
    ) -> Results:
        """Send a form with images in the field `files`, or a single image as the body.

        With `preview`, each result has the image as a JPEG too, for a client that cannot show its format.
        If at least one image can be read, the status is 200 and each of the others has an `error`.
        If none can, the response has the status of the first error.
        """
        uploads = await read_uploads(request, settings)
        buckets.take(who, len(uploads) - 1, in_debt=True)
        answers = await read(request, uploads, preview)
        refusals = [answer for answer in answers if isinstance(answer, RefusedError)]
        for refusal in refusals:
            measures.rejections.labels(refusal.code).inc()
        if len(refusals) == len(answers):
            response.status_code = refusals[0].status
            response.headers.update(refusals[0].headers())
        results = [
            Result(name=upload.name, error=ErrorContent.model_validate(answer.content()))
            if isinstance(answer, RefusedError)
            else Result.of(upload.name, answer, keep(upload, answer))
            for upload, answer in zip(uploads, answers, strict=True)
        ]
        versions = [answer.version for answer in answers if isinstance(answer, Answer)]
        return Results(results=results, model=versions[0] if versions else engine.model.version)

    return router


def _status(
    engine: Engine, measures: Measures, sender: Callable[[Request], Awaitable[str]]
) -> APIRouter:
    """Return the router of the routes that describe the server."""
    router = APIRouter(tags=["status"])

    @router.get("/v1/model", summary="Describe the model in use", dependencies=[Depends(sender)])
    async def model() -> dict[str, Any]:
        """Manifest of the bundle, its version as given in responses, and its runtime."""
        used = engine.model
        manifest = msgspec.to_builtins(used.reader.manifest)
        return {"model": used.version, "runtime": used.reader.runtime, "manifest": manifest}

    @router.get("/livez", summary="Check that the server is running")
    async def livez() -> dict[str, str]:
        return {"status": "alive"}

    @router.get(
        "/readyz", summary="Check that the server accepts images", responses={503: _REFUSALS[503]}
    )
    async def readyz() -> dict[str, str]:
        if not engine.is_ready:
            word = "draining" if engine.is_draining else "starting"
            raise RefusedError(503, word, f"the server is {word}; try again")
        return {"status": "ready"}

    @router.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
    async def metrics() -> Response:
        return Response(generate_latest(measures.registry), media_type=CONTENT_TYPE_LATEST)

    return router


_NO_CACHE = {"Cache-Control": "no-cache"}


def _index_text(settings: Settings) -> str:
    """Return the page with the server's limits, and what is kept: so that it is shown without a script."""
    has_clips = clips.unavailable(settings) is None
    days = settings.feedback_days
    kept = f"Images and readings are stored for {days} {'day' if days == 1 else 'days'}."
    if has_clips:
        kept += " Clips are not stored."
    values = {
        "what": "Images and clips" if has_clips else "Images",
        "dropped": "images, clips" if has_clips else "images",
        "videos": " MP4, MOV, WebM and other videos." if has_clips else "",
        "no_clips": "" if has_clips else "hidden",
        "clip_suffixes": ",".join(sorted(VIDEO_SUFFIXES)),
        "max_clip": str(settings.max_clip if has_clips else 0),
        "max_clip_s": f"{settings.max_clip_s:g}",
        "kept": "Nothing is stored." if settings.feedback_url is None else kept,
        "formats": listed(UPLOAD_FORMATS),
        "suffixes": ",".join(UPLOAD_SUFFIXES),
        "max_body": str(settings.max_body),
        "max_pixels": str(settings.max_pixels),
        "max_side": str(settings.max_side),
    }
    text = (PAGE / "index.html").read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text


async def _index(text: str) -> HTMLResponse:
    return HTMLResponse(text, headers=_NO_CACHE)


async def _docs() -> FileResponse:
    return FileResponse(PAGE / "docs.html", headers=_NO_CACHE)


def _add_handlers(app: FastAPI, measures: Measures) -> None:
    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, RefusedError)  # noqa: S101  # for the type checker
        measures.rejections.labels(error.code).inc()
        return error.response()

    async def failed(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "refused")
        return JSONResponse(
            {"error": {"code": code, "message": str(error.detail), "limit": None}},
            error.status_code,
            error.headers,
        )

    async def gone(_: Request, __: Exception) -> Response:
        return Response(status_code=_GONE)

    app.add_exception_handler(RefusedError, refused)
    app.add_exception_handler(HTTPException, failed)
    app.add_exception_handler(ClientDisconnect, gone)


async def _answers(
    request: Request, futures: Sequence[asyncio.Future[Answer]]
) -> list[Answer | RefusedError]:
    """Wait for the answers to images, and give up at the deadline or if the client disconnects.

    Raises:
        ClientDisconnect: The client has disconnected.
    """
    waiting = asyncio.create_task(asyncio.wait(futures))
    leaving = asyncio.create_task(disconnected(request.receive))
    try:
        remaining = max(request.state.deadline - time.monotonic(), 0.0)
        both: set[asyncio.Future[Any]] = {waiting, leaving}
        await asyncio.wait(both, timeout=remaining, return_when="FIRST_COMPLETED")
        if waiting.done():
            return [_known(future.exception() or future.result()) for future in futures]
        if leaving.done():
            raise ClientDisconnect
        return [late()] * len(futures)
    finally:
        leaving.cancel()
        waiting.cancel()
        for future in futures:
            # An exception that nobody asks for would be logged.
            if future.done() and not future.cancelled():
                future.exception()
            future.cancel()


def _known(outcome: Answer | BaseException) -> Answer | RefusedError:
    if isinstance(outcome, Answer | RefusedError):
        return outcome
    raise outcome
