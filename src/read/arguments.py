"""Arguments of the commands that read images and videos."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_paths(parser: argparse.ArgumentParser) -> None:
    """Add the paths of what is to be read."""
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="an image, a video, a folder, a pattern, or - for standard input",
    )


def add_search_and_model(parser: argparse.ArgumentParser) -> None:
    """Add how images are searched, and the bundle that does it."""
    parser.add_argument(
        "--search", choices=("standard", "full"), default="standard",
        help="full: search at full resolution too, for small plates in large photos (slower)",
    )  # fmt: skip
    parser.add_argument(
        "--model", type=Path, metavar="DIR", help="folder of the bundle (default: models)"
    )
