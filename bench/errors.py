"""The one exception that means "you can mend this": its text is shown alone, without a traceback."""

from __future__ import annotations


class UsageError(Exception):
    """Bad input: the text says what was wrong, where, and what to do. The command exits with 2."""
