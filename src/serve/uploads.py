"""Uploaded files in a request's body: the files of a form, or the body itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import IO
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request
from starlette.types import Receive

from .refusals import RefusedError, unsupported_encoding
from .settings import Settings

_NAME = 255
"""Maximum number of characters of a file's name that are returned."""
_QUOTED = re.compile(rb'"(?:\\.|[^"\\])*+(?:"|\Z)', re.DOTALL)
"""Quoted string; one that does not end reaches to the end, or the search would begin again at each quote."""
_EXTENDED_NAME = re.compile(rb";\s*filename\*\s*=\s*([^\s';]*)'[^\s';]*'([^\s;]*)", re.IGNORECASE)
"""Parameter filename* with its charset and its percent-encoded value; RFC 8187, section 3.2."""
_FORM = "multipart/form-data"
_PLAIN = frozenset({"", "7bit", "8bit", "binary", "identity"})
"""Encodings of a form's part that leave its content as it is."""


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


async def read_uploads(request: Request, settings: Settings) -> list[Upload]:
    """Return the files of a request, at least one.

    Raises:
        RefusedError: There is no file, there are too many, or the body is neither a form nor an image.
        ClientDisconnect: The client has disconnected.
    """
    content_type, kind = _kind(request)
    if kind == _FORM:
        uploads = await _of_form(request, content_type, _Files(settings.most_files))
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


async def receive_clip(request: Request, target: IO[bytes]) -> str:
    """Write the one clip of a request to a file as it arrives, and return its name.

    Args:
        request: The request.
        target: File that is open for writing.

    Raises:
        RefusedError: There is no clip, there are several, or the body is neither a form nor a clip.
        ClientDisconnect: The client has disconnected.
        OSError: The file cannot be written.
    """
    content_type, kind = _kind(request)
    name = "body"
    if kind == _FORM:
        uploads = await _of_form(request, content_type, _WrittenFile(target))
        name = uploads[0].name if uploads else name
    elif kind in {"", "application/octet-stream"} or kind.startswith("video/"):
        async for chunk in request.stream():
            target.write(chunk)
    else:
        raise RefusedError(
            415, "unsupported_media_type",
            "send a form (multipart/form-data) with a clip, or a clip (video/...)",
        )  # fmt: skip
    if not target.tell():
        raise RefusedError(400, "no_file", "the request contains no clip, or an empty one")
    target.flush()
    return name


async def disconnected(receive: Receive) -> None:
    """Wait until a client has disconnected, whose body has arrived."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _kind(request: Request) -> tuple[str, str]:
    """Return the header Content-Type, and what it says without its parameters."""
    content_type = request.headers.get("content-type", "")
    return content_type, content_type.split(";")[0].strip().lower()


async def _of_form(request: Request, content_type: str, files: _Files) -> list[Upload]:
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise _malformed("its Content-Type names no boundary")
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": files.begin,
                "on_header_field": files.header_name,
                "on_header_value": files.header_value,
                "on_header_end": files.header_end,
                "on_headers_finished": files.headers_end,
                "on_part_data": files.data,
                "on_part_end": files.end,
            },
        )
        async for chunk in request.stream():
            parser.write(chunk)
    except FormParserError as error:
        raise _malformed(str(error)) from error
    if files.is_open:
        raise _malformed("it ends before the boundary that ends its last file")
    return files.uploads


def _malformed(reason: str) -> RefusedError:
    return RefusedError(400, "bad_form", f"the form is malformed: {reason}")


class _Files:
    """The files of a form, collected from the events of its parser; other fields are ignored.

    Starlette's own collector decodes names by the charset that the request names, and some of Python's
    codecs raise errors or give lone surrogates. RFC 7578 has no such parameter, so it is ignored here.
    Bodies are small and bounded in size, so they stay in memory.

    Args:
        most: Maximum number of files.
        limit: Name of the setting that says so, if there is one.
    """

    def __init__(self, most: int, limit: str | None = "max_files") -> None:
        self._most, self._limit = most, limit
        self.uploads: list[Upload] = []
        self.is_open = False
        """Whether a file has begun and not ended."""
        self._header_name, self._header_value = bytearray(), bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._field, self._file = "", ""
        self._parts: list[bytes] = []

    def begin(self) -> None:
        self._headers = {}

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def header_end(self) -> None:
        self._headers[bytes(self._header_name).lower()] = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def headers_end(self) -> None:
        disposition = self._headers.get(b"content-disposition", b"")
        options = parse_options_header(disposition)[1]
        if b"name" not in options:
            raise _malformed("a part has no Content-Disposition with a name")
        name = options.get(b"filename")
        file = _decoded(name) if name is not None else _extended_name(disposition)
        if file is None:
            return
        if len(self.uploads) >= self._most:
            raise RefusedError(
                413,
                "too_many_files",
                f"the request has more than {self._most} {'file' if self._most == 1 else 'files'}",
                self._limit,
            )
        for header in (b"content-encoding", b"content-transfer-encoding"):
            encoding = self._headers.get(header, b"").strip().lower().decode("latin-1")
            if encoding not in _PLAIN:
                raise unsupported_encoding(encoding)
        self._field, self._file = _decoded(options[b"name"]), file
        self._parts = []
        self.is_open = True

    def data(self, data: bytes, start: int, end: int) -> None:
        if self.is_open:
            self._parts.append(data[start:end])

    def end(self) -> None:
        if self.is_open:
            name = (self._file or "file")[:_NAME]
            self.uploads.append(Upload(self._field, name, b"".join(self._parts)))
            self.is_open = False


class _WrittenFile(_Files):
    """The one file of a form, written to a file as it arrives.

    Args:
        target: File that is open for writing.
    """

    def __init__(self, target: IO[bytes]) -> None:
        super().__init__(1, None)
        self._target = target

    def data(self, data: bytes, start: int, end: int) -> None:
        if self.is_open:
            self._target.write(data[start:end])


def _decoded(name: bytes) -> str:
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return name.decode("latin-1")


def _extended_name(disposition: bytes) -> str | None:
    """Return the file name of the parameter ``filename*``; None if there is none.

    A form should not use it (RFC 7578, section 4.2), but some clients send names that are not ASCII so.
    """
    found = _EXTENDED_NAME.search(_QUOTED.sub(b'""', disposition))
    if found is None:
        return None
    charset, value = found.groups()
    # Charsets other than these two are not specified, so at most the name is wrong.
    is_latin = charset.lower() == b"iso-8859-1"
    return unquote_to_bytes(value).decode("latin-1" if is_latin else "utf-8", "replace")
