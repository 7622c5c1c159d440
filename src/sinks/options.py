"""What is asked for: on the command line, and before the first table of the file of sources."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from ..video.settings import SettingsError, load_tables
from .errors import SinkError

SECRET = "PLATES_WEBHOOK_SECRET"  # noqa: S105  # the variable's name
USER, PASSWORD = "PLATES_MQTT_USER", "PLATES_MQTT_PASSWORD"
"""Variables of the environment: what is on a command line can be seen by every user of the machine."""
OUTBOX = "outbox.db"
"""File of the outbox where none is named, in the current folder."""


class SinkOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where events go, and how.

    Attributes:
        to: URLs of sinks.
        outbox: File that holds events until all sinks have taken them.
        with_images: Whether events go with their best frame.
        keep_days: Days for which a database keeps events.
        secret_file: File with the secret that signs webhooks.
        ca_file: File of certificates (PEM) that are trusted instead of the system's.
        watch_list: CSV file of plates that are looked for.
        min_match: Least probability of a match with it.
    """

    to: tuple[str, ...] = ()
    outbox: str = OUTBOX
    with_images: bool = False
    keep_days: Annotated[float, Meta(gt=0, le=36500)] | None = None
    secret_file: str | None = None
    ca_file: str | None = None
    watch_list: str | None = None
    min_match: Annotated[float, Meta(gt=0, le=1)] | None = None

    def secret(self) -> str | None:
        """Return the secret that signs webhooks, from its file or the environment, if there is one.

        Raises:
            SinkError: The file cannot be read.
        """
        if self.secret_file is None:
            return os.environ.get(SECRET)
        try:
            return Path(self.secret_file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SinkError(f"{self.secret_file}: cannot be read as a secret: {error}") from error


OPTIONS = SinkOptions.__struct_fields__
"""Names that the file of sources may have before its first table."""


def load_options(path: Path | None, given: dict[str, object]) -> SinkOptions:
    """Return what a file of sources and the command line ask for together.

    Args:
        path: TOML file, if there is one.
        given: Options of the command line, which go before those of the file; URLs of both count.

    Raises:
        SettingsError: The file cannot be read, or an option is out of range.
    """
    tables = {} if path is None else load_tables(path)
    named = {
        key: value
        for key, value in tables.items()
        if key in OPTIONS and not isinstance(value, dict)
    }
    of_file = _converted(named, f"{path}: ", "")
    own = _converted(given, "", "--")
    fields = {name: getattr(own if name in given else of_file, name) for name in OPTIONS}
    return SinkOptions(**{**fields, "to": (*of_file.to, *own.to)})


def _converted(values: dict[str, object], where: str, dashes: str) -> SinkOptions:
    try:
        return msgspec.convert(values, SinkOptions)
    except msgspec.ValidationError as error:
        text = str(error)
        if dashes:
            text = text.replace("`$.", f"`{dashes}").replace("_", "-")
        raise SettingsError(f"{where}{text}") from error
