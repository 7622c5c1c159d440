"""From URLs to sinks.

https://host/path                              a webhook
mqtt://host[:port]/topic, mqtts://…            a broker, without or with TLS
…?discovery=homeassistant                      with discovery by Home Assistant
sqlite:///FILE, postgresql://host/database     the table of events in a database
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from .base import Sink
from .errors import SinkError, missing
from .options import PASSWORD, USER, SinkOptions

TOPIC = "swiss-plates"
"""Topic below which events are sent to a broker, unless the URL names another."""
_FORMS = (
    "use https://HOST/PATH, mqtt://HOST/TOPIC, mqtts://HOST/TOPIC, sqlite:///FILE or "
    "postgresql://HOST/DATABASE"
)
_WEBHOOKS = ("http", "https")
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_DATABASES = ("sqlite", "postgres", "postgresql", "postgresql+psycopg")


def open_sinks(options: SinkOptions, sources: Sequence[str]) -> list[Sink]:
    """Return the sinks that are asked for.

    Args:
        options: What is asked for.
        sources: Names of the sources.

    Raises:
        UserError: A URL or an option is wrong, or a package is missing.
    """
    sinks = [_open(url, options, sources) for url in options.to]
    for key, count in Counter(sink.key for sink in sinks).items():
        if count > 1:
            name = next(sink.name for sink in sinks if sink.key == key)
            raise SinkError(f"--to: {name} is given twice")
    names = [sink.name for sink in sinks]
    for place, sink in enumerate(sinks):
        if names.count(sink.name) > 1:
            # The part of a URL that would tell them apart may be a secret.
            sink.name += f" (--to number {place + 1})"
    return sinks


def _open(url: str, options: SinkOptions, sources: Sequence[str]) -> Sink:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise SinkError(f"--to: a URL is invalid ({error}); {_FORMS}") from None
    scheme = parts.scheme.lower()
    if scheme in _DATABASES:
        return _database(url, parts, options)
    if scheme not in _WEBHOOKS and scheme not in _PORTS:
        raise SinkError(f"--to: {scheme or 'a URL without its kind'} is no kind of sink; {_FORMS}")
    if not parts.hostname:
        raise SinkError(f"--to: a URL of {scheme} names no host; {_FORMS}")
    if scheme in _WEBHOOKS:
        return _webhook(url, parts, options)
    return _broker(url, parts, port or _PORTS[scheme], options, sources)


def _key(parts: SplitResult) -> str:
    """Return what identifies a URL: all of it but user and password, which may change."""
    host = parts.netloc.rpartition("@")[2].lower()
    text = f"{parts.scheme.lower()}://{host}{parts.path}?{parts.query}"
    # A hash, as the path of a webhook may be a secret.
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _address(parts: SplitResult) -> str:
    """Return host and port for messages, without user and password."""
    return parts.netloc.rpartition("@")[2]


def _ca_file(options: SinkOptions) -> Path | None:
    return None if options.ca_file is None else Path(options.ca_file)


def _webhook(url: str, parts: SplitResult, options: SinkOptions) -> Sink:
    try:
        import httpx

        from .webhook import Webhook, secret_key
    except ModuleNotFoundError as error:
        raise missing("httpx") from error
    try:
        httpx.URL(url)
    except httpx.InvalidURL as error:
        raise SinkError(f"--to: the URL at {_address(parts)} is invalid: {error}") from None
    secret = options.secret()
    return Webhook(
        url,
        # The path of many a webhook is its secret.
        f"{parts.scheme.lower()}://{_address(parts)}/…",
        _key(parts),
        None if secret is None else secret_key(secret),
        _ca_file(options),
    )


def _broker(
    url: str, parts: SplitResult, port: int, options: SinkOptions, sources: Sequence[str]
) -> Sink:
    try:
        from .mqtt import Broker, Mqtt
    except ModuleNotFoundError as error:
        raise missing("paho-mqtt") from error
    base = unquote(parts.path).strip("/") or TOPIC
    name = f"{parts.scheme.lower()}://{_address(parts)}/{base}"
    # What follows # is no part of the path.
    if "#" in url or any(character in base for character in "+#\0"):
        raise SinkError(f"--to: {name}: a topic has none of the characters + and #")
    query = parse_qs(parts.query, keep_blank_values=True)
    prefixes = query.pop("discovery", [])
    if query or len(prefixes) > 1 or prefixes == [""]:
        raise SinkError(f"--to: {name}: the only option is ?discovery=homeassistant")
    broker = Broker(
        host=parts.hostname or "",
        port=port,
        is_secure=parts.scheme.lower() == "mqtts",
        user=os.environ.get(USER, _unquoted(parts.username)),
        password=os.environ.get(PASSWORD, _unquoted(parts.password)),
        ca_file=_ca_file(options),
    )
    prefix = prefixes[0].strip("/") if prefixes else None
    return Mqtt(broker, base, name, _key(parts), sources, options.with_images, prefix)


def _unquoted(text: str | None) -> str | None:
    return None if text is None else unquote(text)


def _database(url: str, parts: SplitResult, options: SinkOptions) -> Sink:
    if options.keep_days is None:
        raise SinkError(
            "--to: events in a database need a retention period: give --keep-days, the days for which they "
            "are kept"
        )
    try:
        from .table import EventTable

        return EventTable(url, _key(parts), options.keep_days)
    except ModuleNotFoundError as error:
        raise missing((error.name or "sqlalchemy").partition(".")[0]) from error
