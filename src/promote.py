"""Promote the exported bundle if it is better: `python -m src.promote`, described in promotion/promote.py."""

from __future__ import annotations

from functools import partial

from .config.stage import run_stage
from .promotion.promote import main, parse

if __name__ == "__main__":
    run_stage(partial(main, parse()))
