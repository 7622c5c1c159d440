"""Base classes of all user-fixable errors."""

from __future__ import annotations


class UserError(Exception):
    """User-fixable error whose message names the problem, the file or parameter, and the remedy."""


class StageError(UserError):
    """A stage fails for a reason that lies neither in its data nor in its model."""
