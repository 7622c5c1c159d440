"""What can go wrong with the store of feedback; imported where the store itself is not needed."""

from __future__ import annotations

from ..core.errors import UserError


class StoreError(UserError):
    """The store cannot be opened, read or written."""


class StoreFullError(StoreError):
    """The pictures take as much room as they may."""


class UnknownEntryError(UserError):
    """There is no entry of that id, or its picture has no such plate."""


class CorrectionError(UserError):
    """A correction breaks the grammar, or is none."""
