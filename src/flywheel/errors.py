"""Errors of the feedback store, importable where the store itself is not needed."""

from __future__ import annotations

from ..core.errors import UserError


class StoreError(UserError):
    """The store cannot be opened, read or written."""


class StoreFullError(StoreError):
    """The stored images already take up all the space allowed."""


class UnknownEntryError(UserError):
    """No entry has this id, or its image has no such plate."""


class CorrectionError(UserError):
    """A correction violates the plate grammar, or is not valid."""
