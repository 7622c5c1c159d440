"""Uploaded images in a request's body: the files of a form, or the body itself."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from .refusals import RefusedError
from .settings import Settings

_FIELDS = 32
"""Maximum number of form fields that are not files; these fields are ignored."""
_FIELD_BYTES = 16_384
_NAME = 255
"""Maximum number of characters of a file's name that are returned."""


@dataclass(frozen=True)
class Upload:
    """A file as it was sent.

    Attributes:
        field: Name of the form's field; empty if the body is the file.
        name: File name given by the sender.
        content: Content of the file.
    """

    field: str
    name: str
    content: bytes


class _InMemory(MultiPartParser):
    # Bodies are small and bounded in size, so writing each to a file on disk would cost more.
    spool_max_size = 2**62


async def read_uploads(request: Request, settings: Settings) -> list[Upload]:
    """Return the files of a request, at least one.

    Raises:
        RefusedError: There is no file, there are too many, or the body is neither a form nor an image.
        ClientDisconnect: The client has disconnected.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "multipart/form-data":
        uploads = await _of_form(request, settings)
    elif kind in {"", "application/octet-stream"} or kind.startswith("image/"):
        content = await request.body()
        uploads = [Upload("", "body", content)] if content else []
    else:
        raise RefusedError(
            415, "unsupported_media_type",
            "send a form (multipart/form-data) with files, or an image (image/...)",
        )  # fmt: skip
    if not uploads:
        raise RefusedError(400, "no_file", "the request contains no file")
    return uploads


async def _of_form(request: Request, settings: Settings) -> list[Upload]:
    parser = _InMemory(
        request.headers,
        request.stream(),
        max_files=settings.max_files,
        max_fields=_FIELDS,
        max_part_size=_FIELD_BYTES,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            raise RefusedError(
                413,
                "too_many_files",
                f"the request has more than {settings.max_files} files",
                "max_files",
            ) from error
        raise RefusedError(400, "bad_form", f"the form is malformed: {error.message}") from error
    try:
        return [
            Upload(field, (value.filename or "file")[:_NAME], await value.read())
            for field, value in form.multi_items()
            if isinstance(value, UploadFile)
        ]
    finally:
        await form.close()
