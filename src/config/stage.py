"""Entry point of the stages: one message for a user error, and the exit status that a shell expects.

The exit status is 1 after an error that a user can fix, 130 after Ctrl-C and 143 after SIGTERM, as if the
signal had ended the process. DVC takes any of them for a failure.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

from ..core.errors import UserError
from . import Config, load_config
from .run_checks import check_end, check_start

INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM


def run_stage(main: Callable[[Config], None]) -> None:
    """Call a stage with the validated parameters; exit with a status that tells how it failed.

    Raises:
        SystemExit: It failed, or was interrupted or terminated.
    """
    _exit_when_terminated()
    try:
        config = load_config()
        check_start(config)
        main(config)
        check_end(config)
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except SystemExit as error:
        # Lightning turns Ctrl-C into the status 1.
        if isinstance(error.__context__, KeyboardInterrupt):
            sys.exit(INTERRUPTED)
        raise


def _exit_when_terminated() -> None:
    """Let SIGTERM raise SystemExit, so that what is half-written is removed.

    Lightning calls the handler that it finds after its own, which would end the training with status 0.
    """
    stage = os.getpid()

    def exit_stage(number: int, _: FrameType | None) -> None:
        if os.getpid() == stage:
            sys.exit(TERMINATED)
        # A process that the stage has forked ends as it would without this handler.
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, exit_stage)
