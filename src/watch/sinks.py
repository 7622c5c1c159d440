"""What the command is asked for beside events on standard output: sinks and a watch list."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..sinks.options import OPTIONS, OUTBOX, PASSWORD, SECRET, USER, SinkOptions
from ..video.settings import SettingsError

if TYPE_CHECKING:
    from ..sinks.delivery import Dispatcher
    from ..video.watch_list import WatchList


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of sinks and of the watch list to a command line."""
    group = parser.add_argument_group(
        "sinks", f"Secrets are in the environment: {SECRET}, {USER}, {PASSWORD}."
    )
    group.add_argument(
        "--to", action="append", metavar="URL",
        help="send events to https://…, mqtt(s)://…, sqlite:///… or postgresql://… too; may be repeated",
    )  # fmt: skip
    group.add_argument(
        "--outbox", metavar="FILE",
        help=f"file that holds events until all sinks have taken them (default: {OUTBOX})",
    )  # fmt: skip
    group.add_argument(
        "--with-images", action="store_true", default=None, help="send the best frame too"
    )
    group.add_argument(
        "--keep-days", type=float, metavar="N",
        help="days for which a database keeps an event; needed with a database",
    )  # fmt: skip
    group.add_argument(
        "--secret-file", metavar="FILE", help="file with the secret that signs webhooks"
    )
    group.add_argument(
        "--ca-file", metavar="FILE",
        help="certificates (PEM) that are trusted instead of the system's",
    )  # fmt: skip
    group.add_argument(
        "--watch-list", metavar="FILE",
        help="CSV file of plates that events name: plate, label, valid_from, valid_to, colour, format",
    )  # fmt: skip
    group.add_argument(
        "--min-match", type=float, metavar="P",
        help="least probability of a match with the watch list (default: 0.5)",
    )  # fmt: skip


def sink_values(options: argparse.Namespace) -> dict[str, object]:
    """Return what the command line says of sinks and of the watch list."""
    values = {name: getattr(options, name) for name in OPTIONS}
    return {name: value for name, value in values.items() if value is not None}


@contextmanager
def dispatching(
    options: SinkOptions, sources: Sequence[str], say: Callable[[str], None]
) -> Iterator[Dispatcher | None]:
    """Open the sinks that are asked for, if there are any, and deliver what is left in the end.

    Args:
        options: What is asked for.
        sources: Names of the sources.
        say: Takes messages for people.

    Raises:
        UserError: A URL or an option is wrong, or the outbox cannot be used.
    """
    if not options.to:
        yield None
        return
    from ..sinks.delivery import MAX_AGE_DAYS, Dispatcher
    from ..sinks.outbox import Outbox
    from ..sinks.targets import open_sinks

    sinks = open_sinks(options, sources)
    outbox = Outbox(Path(options.outbox))
    age = min(options.keep_days or MAX_AGE_DAYS, MAX_AGE_DAYS)
    dispatcher = Dispatcher(outbox, sinks, say, options.with_images, age)
    try:
        yield dispatcher
    finally:
        dispatcher.close()
        outcome = dispatcher.outcome
        if outcome.waiting or outcome.set_aside:
            say(
                f"{outbox.name}: not delivered: {outcome.waiting + outcome.set_aside}, of which refused: "
                f"{outcome.set_aside}; they are sent at the next start with this outbox"
            )


def watch_list_of(options: SinkOptions, say: Callable[[str], None]) -> WatchList | None:
    """Return the watch list that is asked for, if there is one.

    Args:
        options: What is asked for.
        say: Takes a message when the list has changed.

    Raises:
        UserError: It cannot be read.
    """
    if options.watch_list is None:
        if options.min_match is not None:
            raise SettingsError("--min-match needs --watch-list FILE")
        return None
    from ..video.watch_list import LEAST, WatchList

    return WatchList(Path(options.watch_list), say, options.min_match or LEAST)
