"""Watch videos and cameras; give one event for each vehicle.

    python -m src.watch SOURCE... [--json] [--sources FILE] [--fps N] [--region X1,Y1,X2,Y2] [--min-width PX]
                        [--delay S] [--unread] [--images DIR] [--min-confidence P] [--model DIR]
                        [--to URL] [--outbox FILE] [--with-images] [--keep-days N]
                        [--watch-list FILE] [--min-match P]

A SOURCE is a video file, a folder of frames, a stream (rtsp://, or http:// with MJPEG), a snapshot (http://
with a single image, which is polled) or a device (/dev/video0); NAME=SOURCE gives it a name. Events go to
standard output as they come: a line each, or with --json an object each. An event is given when its vehicle
has gone or after a delay, and again with the next revision if its text gets better. Messages and progress go
to standard error. SIGTERM and SIGINT end it after the events of the vehicles that are still there.

Events can go to web servers, MQTT brokers and databases too (--to, any number): https://HOST/PATH,
mqtt://HOST/TOPIC, mqtts://HOST/TOPIC, sqlite:///FILE, postgresql://HOST/DATABASE. They wait in a file, the
outbox, until all have taken them. Plates of a watch list are named in their events.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ..core.errors import UserError
from ..core.program import program
from ..sinks.options import OPTIONS, SinkOptions, load_options
from ..video.settings import Region, Settings, SettingsError, SourceSpec, load_sources
from .sinks import add_arguments, dispatching, sink_values, watch_list_of

if TYPE_CHECKING:
    from ..video.events import Event

INTERRUPTED, BROKEN_PIPE = 130, 141
"""Exit statuses that shells use for SIGINT and SIGPIPE."""


def named(arguments: Sequence[str], settings: Settings) -> list[SourceSpec]:
    """Return the sources of the command line, each with a name of its own.

    Args:
        arguments: SOURCE or NAME=SOURCE.
        settings: What is asked of all of them.
    """
    from ..video.sources import without_credentials

    specs: list[SourceSpec] = []
    for argument in arguments:
        match = re.fullmatch(r"([\w.-]+)=(.+)", argument)
        if match and not Path(argument).exists():
            specs.append(SourceSpec(match[1], match[2], settings))
        else:
            # A file name may hold any bytes, but the name of a source is text.
            name = os.fsencode(without_credentials(argument)).decode(errors="replace")
            specs.append(SourceSpec(name, argument, settings))
    return specs


def check_names(specs: Sequence[SourceSpec]) -> None:
    """Raise an error if two sources have one name: nobody could tell their events apart.

    Raises:
        SettingsError: Two sources have the same name.
    """
    names = [spec.name for spec in specs]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(f"two sources are called {name}; name them: NAME=SOURCE")


# Output


def event_object(event: Event, images: Path | None = None) -> dict[str, Any]:
    """Return an event as plain values for JSON.

    Args:
        event: The event.
        images: Folder that its best frame is written to, as a file that the object names.
    """
    result: dict[str, Any] = msgspec.to_builtins(event)
    image = event.best.image
    if images is not None and isinstance(image, bytes):
        result["best"]["image"] = str(_write_image(images, event, image))
    else:
        # It may be there for a sink.
        result["best"].pop("image", None)
    return result


def _write_image(folder: Path, event: Event, image: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{event.id}-{event.revision}.jpg"
    temporary = folder / f".{path.name}.partial"
    try:
        temporary.write_bytes(image)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


class _Progress:
    """Progress of the files among the sources, on a terminal or as a line now and then."""

    def __init__(self) -> None:
        from tqdm import tqdm

        on_terminal = sys.stderr.isatty()
        self._reached: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()
        self.bar = tqdm(
            unit=" s", file=sys.stderr, delay=1.0, mininterval=0.3 if on_terminal else 10.0,
            bar_format="{desc}{percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s of video [{elapsed}]",
            total=0,
        )  # fmt: skip

    def __call__(self, name: str, second: float, length: float | None) -> None:
        if length is None:
            return
        with self._lock:
            self._reached[name] = (min(second, length), length)
            self.bar.total = sum(whole for _, whole in self._reached.values())
            self.bar.n = sum(reached for reached, _ in self._reached.values())
            self.bar.update(0)


# The command


def run(options: argparse.Namespace) -> int:
    """Watch the sources until they end, or a signal ends them; return the exit status.

    Raises:
        UserError: A setting is wrong, or the bundle cannot be used.
    """
    sinks = load_options(options.source_file, sink_values(options))
    specs = specs_of(options, settings_of(options, sinks))
    stop = threading.Event()
    signals: list[int] = []

    def end(number: int, _: object) -> None:
        # A second signal does not wait for what the first one asked for.
        if signals:
            os._exit(128 + number)
        signals.append(number)
        stop.set()

    previous = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    progress = _Progress()
    try:
        status = _watch(options, specs, sinks, stop, progress)
    finally:
        progress.bar.close()
        for number, handler in previous.items():
            signal.signal(number, handler)
    return INTERRUPTED if signal.SIGINT in signals else status


def _watch(
    options: argparse.Namespace,
    specs: Sequence[SourceSpec],
    sinks: SinkOptions,
    stop: threading.Event,
    progress: _Progress,
) -> int:
    """Watch the sources, and give events to all who are to have them; return the exit status."""
    from ..inference.reader import PlateReader
    from ..video.events import Event
    from ..video.watcher import read_with, watch

    def say(text: str) -> None:
        progress.bar.write(text, file=sys.stderr)

    status = 0
    watch_list = watch_list_of(sinks, say)
    with dispatching(sinks, [spec.name for spec in specs], say) as dispatcher:
        reader = PlateReader.load(options.model)
        for result in watch(specs, read_with(reader), stop, progress):
            if isinstance(result, Event):
                event = result if watch_list is None else watch_list.matched(result)
                if dispatcher is not None:
                    # Before it is printed: whoever reads an event can rely on it that it is delivered.
                    try:
                        dispatcher.take(event)
                    except UserError as error:
                        status = 1
                        say(f"error: {error}")
                line = (
                    json.dumps(event_object(event, options.images))
                    if options.json
                    else event.line()
                )
                progress.bar.write(line, file=sys.stdout)
                sys.stdout.flush()
            else:
                status = status or int(result.is_error)
                word = "error: " if result.is_error else ""
                text = result.text
                if not text.startswith(result.source):
                    text = f"{result.source}: {text}"
                say(f"{word}{text}")
    if dispatcher is not None and (dispatcher.outcome.set_aside or dispatcher.outcome.dropped):
        return 1
    return status


def specs_of(options: argparse.Namespace, settings: Settings) -> list[SourceSpec]:
    """Return the sources of the command line and of the file of sources.

    Args:
        options: The command line.
        settings: What is asked of all of them.

    Raises:
        SettingsError: There is none, or one is wrong.
    """
    specs = named(options.sources, settings)
    if options.source_file is not None:
        specs += load_sources(options.source_file, settings, OPTIONS)
    if not specs:
        raise SettingsError("there is nothing to watch: give a SOURCE, or --sources FILE")
    check_names(specs)
    return specs


def settings_of(options: argparse.Namespace, sinks: SinkOptions) -> Settings:
    """Return the settings that the command line asks for.

    Args:
        options: The command line.
        sinks: Where events go: they may need images.

    Raises:
        SettingsError: A value is out of its range.
    """
    values = {
        "fps": options.fps,
        "regions": options.region,
        "min_width": options.min_width,
        "delay": options.delay,
        "unread": options.unread,
        "min_confidence": options.min_confidence,
        "frame_rate": options.frame_rate,
        "images": options.images is not None or sinks.with_images,
    }
    given = {name: value for name, value in values.items() if value is not None}
    try:
        return msgspec.convert(given, Settings)
    except msgspec.ValidationError as error:
        raise SettingsError(str(error).replace("`$.", "`--").replace("_", "-")) from error


def _region(text: str) -> Region:
    return tuple(float(value) for value in text.split(","))


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=program("watch"),
        description=__doc__.split("\n\n")[0],
        epilog=__doc__.split("\n\n")[2],
    )
    parser.add_argument("sources", nargs="*", metavar="SOURCE", help="SOURCE or NAME=SOURCE")
    parser.add_argument("--json", action="store_true", help="print one JSON object per event")
    parser.add_argument(
        "--sources", type=Path, metavar="FILE", dest="source_file",
        help="TOML file with a table for each source: its name, source = …, and its own settings",
    )  # fmt: skip
    parser.add_argument("--fps", type=float, metavar="N", help="frames a second (default: 8)")
    parser.add_argument(
        "--region", type=_region, action="append", metavar="X1,Y1,X2,Y2",
        help="region of interest in pixels, or the corners of a polygon; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--min-width",
        type=float,
        metavar="PX",
        help="least width of a plate in pixels (default: 0)",
    )
    parser.add_argument(
        "--delay", type=float, metavar="S",
        help="seconds after which an event is given although its vehicle is still there (default: 6)",
    )  # fmt: skip
    parser.add_argument(
        "--unread",
        action="store_true",
        default=None,
        help="give events of plates without a text too",
    )
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="write the best frame of each event to DIR"
    )
    parser.add_argument(
        "--min-confidence", type=float, metavar="P",
        help="least probability of a text (default: as fitted on drawn clips)",
    )  # fmt: skip
    parser.add_argument(
        "--frame-rate",
        type=float,
        metavar="N",
        help="frames a second of folders and of raw MJPEG files (default: 25)",
    )
    parser.add_argument(
        "--model", type=Path, metavar="DIR", help="folder of the bundle (default: models)"
    )
    add_arguments(parser)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    options = parse(arguments)
    try:
        return run(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The output is closed. Without this, Python would fail to flush it at exit and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command as a process, which does not wait for threads that hang in a camera."""
    status = main(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    sys.exit(command())
