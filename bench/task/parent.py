"""A process that ends with the one that started it."""

from __future__ import annotations

import os


def follow_parent() -> None:
    """End with the parent: it keeps our standard input open for as long as it lives. To be run in a thread."""
    os.read(0, 1)  # not sys.stdin: a thread that holds its lock would trouble the interpreter's end
    os._exit(1)
