"""The base of all errors that a user can fix."""

from __future__ import annotations


class UserError(Exception):
    """The message names what is wrong, in which file or parameter, and the remedy."""


class StageError(UserError):
    """A stage cannot do its work for a reason that is neither its data's nor its model's."""
