"""Names of files from names that may hold anything."""

from __future__ import annotations

import re


def file_name(text: str) -> str:
    """A name that every file system and LaTeX take."""
    return re.sub(r"[^A-Za-z0-9.]+", "_", text).strip("_.")[:80] or "unnamed"
