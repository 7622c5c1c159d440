"""Folders that images are read from and results are written to: of this machine, S3 or Google Cloud Storage.

Credentials come from where the clouds' own tools take them, on each machine that reads or writes. The
endpoint of another S3 server is in AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, that of a server that stands for
Google's in STORAGE_EMULATOR_HOST.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

from ..core.errors import UserError
from ..core.images import SUFFIXES
from ..core.program import COMMAND
from .paths import Found, LeftOut, find_files

try:
    from pyarrow import fs
except ModuleNotFoundError as _error:
    raise UserError(
        f"--out needs {_error.name}, which is not installed: pip install '{COMMAND}[cluster]'"
    ) from _error

S3, GOOGLE = "s3", "gs"
_SCHEMES = {"s3": S3, "gs": GOOGLE, "gcs": GOOGLE}
_TIMEOUT_SECONDS = 60
_REFUSED = ("ACCESS_DENIED", "PERMISSION_DENIED", "FORBIDDEN", "403")
"""How the clouds say that one object must not be read."""


class StorageError(UserError):
    """A folder cannot be used; the message says why."""


@dataclass(frozen=True)
class Storage:
    """A file system; small, so that it goes with each task.

    Attributes:
        kind: ``s3``, ``gs`` or, for that of the machine, empty.
        endpoint: URL of a server other than Amazon's or Google's; for the latter, without credentials.
        region: Region of S3.
    """

    kind: str = ""
    endpoint: str | None = None
    region: str | None = None

    @property
    def files(self) -> fs.FileSystem:
        """The file system; one for each process."""
        return _files(self)


@lru_cache
def _files(storage: Storage) -> fs.FileSystem:
    parts = urlsplit(storage.endpoint or "https:")
    if storage.kind == S3:
        return fs.S3FileSystem(
            region=storage.region, scheme=parts.scheme, endpoint_override=parts.netloc or None,
            connect_timeout=_TIMEOUT_SECONDS / 4, request_timeout=_TIMEOUT_SECONDS,
        )  # fmt: skip
    if storage.kind == GOOGLE:
        return fs.GcsFileSystem(
            anonymous=storage.endpoint is not None, scheme=parts.scheme,
            endpoint_override=parts.netloc or None,
            retry_time_limit=timedelta(seconds=_TIMEOUT_SECONDS),
        )  # fmt: skip
    return fs.LocalFileSystem()


@dataclass(frozen=True)
class Place:
    """A file or a folder.

    Attributes:
        storage: The file system that it is in.
        path: Path in it, absolute, or the bucket and the key.
        prefix: What comes before the path where it is named, such as ``s3://``.
    """

    storage: Storage
    path: str
    prefix: str = ""

    def __str__(self) -> str:
        """Return how a user names it."""
        return f"{self.prefix}{self.path}"

    def __truediv__(self, name: str) -> Place:
        return Place(self.storage, f"{self.path}/{name}", self.prefix)

    def read(self) -> bytes:
        """Return the content of the file.

        Raises:
            FileNotFoundError: There is none.
            OSError: It cannot be read.
        """
        with self.storage.files.open_input_stream(self.path, compression=None) as stream:
            return bytes(stream.read())

    def write(self, content: bytes) -> None:
        """Write a file, which appears under its name when it is complete.

        Raises:
            StorageError: It cannot be written.
        """
        try:
            if self.storage.kind:
                # An object appears when its upload is complete.
                with self.storage.files.open_output_stream(self.path) as stream:
                    stream.write(content)
                return
            path = Path(self.path)
            temporary = path.with_name(f".{path.name}-{uuid4().hex}.partial")
            try:
                with temporary.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"{self}: cannot be written: {error.strerror or error}") from error

    def names(self) -> list[str]:
        """Return the names of what is in the folder; none if it does not exist.

        Raises:
            StorageError: It cannot be listed.
        """
        selector = fs.FileSelector(self.path, allow_not_found=True)
        try:
            return [info.base_name for info in self.storage.files.get_file_info(selector)]
        except OSError as error:
            raise StorageError(f"{self}: cannot be listed: {error}") from error

    def make_folder(self) -> None:
        """Make the folder, with those above it, where it is one of this machine.

        Raises:
            StorageError: It cannot be made.
        """
        try:
            if not self.storage.kind:
                Path(self.path).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{self}: cannot be made: {error.strerror}") from error


def is_remote(name: str) -> bool:
    """Whether a name is that of S3 or Google Cloud Storage."""
    return "://" in name


def place_of(name: str) -> Place:
    """Return the place of a path or a URL.

    Raises:
        StorageError: The URL is of another kind, or the region of its bucket cannot be found.
    """
    if not is_remote(name):
        return Place(Storage(), os.path.abspath(name))  # noqa: PTH100  # a link keeps its name
    scheme, _, path = name.partition("://")
    path = path.rstrip("/")
    kind = _SCHEMES.get(scheme.lower())
    if kind is None or not path or "@" in path.partition("/")[0]:
        raise StorageError(
            f"{name}: expected a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX, without credentials"
        )
    if kind == GOOGLE:
        endpoint = os.environ.get("STORAGE_EMULATOR_HOST") or None
        if endpoint and "://" not in endpoint:
            endpoint = f"http://{endpoint}"
        return Place(Storage(GOOGLE, endpoint), path, f"{scheme}://")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region is None:
        region = "us-east-1" if endpoint else _region(name, path.partition("/")[0])
    return Place(Storage(S3, endpoint or None, region), path, f"{scheme}://")


def _region(name: str, bucket: str) -> str:
    try:
        return str(fs.resolve_s3_region(bucket))
    except OSError as error:
        raise StorageError(f"{name}: the bucket cannot be found: {error}") from error


def find_images(
    names: Sequence[str], results: Place, left_out: LeftOut
) -> Iterator[tuple[Place, str | None]]:
    """Yield the places of all images, in the order of the names, and those of a folder sorted.

    Args:
        names: Paths, folders or patterns of this machine, and URLs of objects or folders.
        results: Where results are written, which is not searched.
        left_out: Where to count what is not read.

    Yields:
        Each place, and why there is nothing to read, if so.

    Raises:
        StorageError: A URL is wrong, or its folder cannot be listed.
    """
    for name in names:
        if is_remote(name):
            yield from _objects(place_of(name), results, left_out)
            continue
        skipped = None if results.storage.kind else Path(results.path)
        for found in find_files([os.path.abspath(name)], skipped, left_out):  # noqa: PTH100  # as above
            yield _with_valid_name(found)


def _with_valid_name(found: Found) -> tuple[Place, str | None]:
    try:
        found.path.encode()
    except UnicodeEncodeError:
        path = found.path.encode(errors="backslashreplace").decode()
        return Place(Storage(), path), f"{path}: its name is not UTF-8; rename the file"
    return Place(Storage(), found.path), found.error


def _objects(place: Place, results: Place, left_out: LeftOut) -> Iterator[tuple[Place, str | None]]:
    files = place.storage.files
    try:
        kind = files.get_file_info(place.path).type
        if kind == fs.FileType.File:
            yield place, None
            return
        selector = fs.FileSelector(place.path, allow_not_found=True, recursive=True)
        infos = [info for info in files.get_file_info(selector) if info.type == fs.FileType.File]
    except OSError as error:
        raise StorageError(f"{place}: cannot be searched: {error}") from error
    inside = f"{results.path}/" if results.storage == place.storage else None
    images = 0
    for path in sorted(info.path for info in infos):
        if inside and path.startswith(inside):
            continue
        name = path.rpartition("/")[2]
        if os.path.splitext(name)[1].lower() in SUFFIXES and name[0] != ".":  # noqa: PTH122
            images += 1
            yield Place(place.storage, path, place.prefix), None
        else:
            left_out.files.add(f"{place.prefix}{path}")
    if not images:
        yield place, f"{place}: has no images"


def is_refused(error: OSError) -> bool:
    """Whether an object is missing or must not be read, and not its whole storage out of reach."""
    return isinstance(error, FileNotFoundError | PermissionError) or any(
        word in str(error).upper() for word in _REFUSED
    )


def check_shared(place: Place, name: str) -> None:
    """Raise an error unless this machine sees a file of a folder that another one has written.

    Raises:
        StorageError: It does not.
    """
    if name not in place.names():
        raise StorageError(
            f"{place}: {platform.node()} does not see what was written there. The machines of a cluster "
            "need storage that all of them share: a bucket, or a folder mounted at the same path."
        )
