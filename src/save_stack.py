"""Save the stack for MLEM: ``python -m src.save_stack`` writes models/model_stack and its .mlem file.

The saved model refers to the promoted bundle and contains no network. MLEM has its own environment
(``make mlem``); in any other environment, this command runs itself there.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .core.errors import UserError
from .core.program import PACKAGE, program
from .inference.mlem_environment import MODEL, hand_over, mlem_is_here


def main(arguments: list[str] | None = None) -> int:
    """Save the stack and return the exit status."""
    parser = argparse.ArgumentParser(
        prog=program("save_stack"), description=__doc__.split("\n\n")[0]
    )
    parser.add_argument(
        "--model", type=Path, default=Path("models"), metavar="DIR", help="folder of the bundle"
    )
    options = parser.parse_args(arguments)
    try:
        if not mlem_is_here():
            hand_over("python", ["-m", f"{PACKAGE}.save_stack", "--model", str(options.model)])
        save(options.model)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def save(bundle: Path) -> None:
    """Save the stack of a bundle in this environment, which must have MLEM.

    Raises:
        BundleError: The bundle is missing or damaged.
    """
    import mlem.api

    from .inference.mlem_stack import Stack

    mlem.api.save(Stack.of(bundle).predict, str(MODEL))
    print(f"Wrote {MODEL}.mlem; run `python -m src.serve --engine mlem` to serve it.")


if __name__ == "__main__":
    sys.exit(main())
