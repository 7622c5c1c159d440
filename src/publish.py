"""Push a report's images to a branch: ``python -m src.publish``; see report/publish.py."""

from __future__ import annotations

import sys

from .report.publish import main

if __name__ == "__main__":
    sys.exit(main())
