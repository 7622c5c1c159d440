"""Promote the exported bundle if it is better: ``python -m src.promote``; see promotion/promote.py."""

from __future__ import annotations

from .promotion.promote import command

if __name__ == "__main__":
    command()
