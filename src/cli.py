"""Command ``swiss-plates``, with the same subcommands as ``python -m src.…`` in a checkout.

Dependencies of a subcommand are imported when it is called: reading needs neither torch nor any extra.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple, NoReturn

from . import __version__
from .core.program import COMMAND, PACKAGE


class Subcommand(NamedTuple):
    """A subcommand.

    Attributes:
        entry: Module below this package and its function, which takes the arguments and returns the
            exit status.
        help: One-line description.
        extra: Extra of the distribution with the packages it imports; empty if it needs none.
    """

    entry: str
    help: str
    extra: str = ""


SUBCOMMANDS = {
    "read": Subcommand("read.__main__:command", "read the number plates in images"),
    "watch": Subcommand("watch.__main__:command", "give events of videos and cameras", "video"),
    "blur": Subcommand("blur.__main__:main", "make the plates in images and videos unreadable"),
    "serve": Subcommand("serve.__main__:main", "serve the web page and the HTTP API", "serve"),
    "dashboard": Subcommand("dashboard.__main__:main", "show the dashboard", "dashboard"),
    "quality": Subcommand("quality.__main__:command", "check a dataset and its labels", "train"),
    "export-feedback": Subcommand(
        "flywheel.export:command", "export reviewed plates as a dataset", "train"
    ),
    "promote": Subcommand(
        "promotion.promote:command", "promote the exported bundle if it is better", "train"
    ),
    "report": Subcommand("report.__main__:command", "report what the workspace changes", "train"),
    "publish": Subcommand("report.publish:main", "push images of a report to a branch", "train"),
    "search": Subcommand(
        "search.__main__:command", "search for better parameters of a training", "train,cluster"
    ),
    "gallery": Subcommand("gallery:command", "draw contact sheets of synthetic plates", "train"),
    "save-stack": Subcommand("save_stack:main", "save the promoted bundle for MLEM"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; return its exit status: 2 if it is unknown or its extra is not installed."""
    options = parse(arguments)
    subcommand = SUBCOMMANDS[options.command]
    # The subcommand's own help shows this name.
    sys.argv[0] = f"{COMMAND} {options.command}"
    name, _, function = subcommand.entry.partition(":")
    try:
        entry = getattr(import_module(f"{PACKAGE}.{name}"), function)
    except ModuleNotFoundError as error:
        _missing(options.command, subcommand, error)
    return entry(options.arguments) or 0


def _missing(name: str, subcommand: Subcommand, error: ModuleNotFoundError) -> NoReturn:
    """Exit if a package of an extra is missing; re-raise otherwise, since that is a bug."""
    if not subcommand.extra or (error.name or PACKAGE).split(".")[0] == PACKAGE:
        raise error
    print(
        f"error: {COMMAND} {name} needs {error.name}, which is not installed: "
        f"pip install '{COMMAND}[{subcommand.extra}]'",
        file=sys.stderr,
    )
    sys.exit(2)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the subcommand and its own arguments."""
    width = max(map(len, SUBCOMMANDS)) + 2
    parser = argparse.ArgumentParser(
        prog=COMMAND,
        description="Read Swiss number plates; serve and improve the plate reader.",
        epilog="subcommands:\n"
        + "\n".join(f"  {name:{width}}{each.help}" for name, each in SUBCOMMANDS.items())
        + f"\n\nRun `{COMMAND} SUBCOMMAND --help` for the arguments of a subcommand.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{COMMAND} {__version__}")
    parser.add_argument(
        "command", choices=SUBCOMMANDS, metavar="SUBCOMMAND", help="subcommand to run (see below)"
    )
    parser.add_argument(
        "arguments", nargs=argparse.REMAINDER, metavar="…", help="arguments of the subcommand"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
