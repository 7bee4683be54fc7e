"""The one exception that means "you can mend this": its text is shown alone, without a traceback."""

from __future__ import annotations

_HEAD, _TAIL = 700, 300  # characters that are kept of a text that quotes a file gone wild


class UsageError(Exception):
    """Bad input: the text says what was wrong, where, and what to do. The command exits with 2."""

    def __init__(self, text: str) -> None:
        super().__init__(text if len(text) <= _HEAD + _TAIL else f"{text[:_HEAD]} … {text[-_TAIL:]}")
