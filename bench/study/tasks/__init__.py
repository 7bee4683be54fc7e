"""The tasks: one file a family. Making a task loads its family and torch; data are read in ``splits``."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import UsageError
from ..catalog import DATA
from ..task import StudyTask


def create(name: str, axes: Mapping[str, Any] | None = None) -> StudyTask:
    """The task of this name in the catalog.

    axes: the shape axes of the subject, for those tasks whose shape its user decides (imagefolder's size).
    """
    return _family(name).create(name, axes or {})


def check(name: str, root: Path | None, download: bool) -> None:
    """Make sure, before anything is measured, that the data are at hand and whole; a UsageError names the remedy.

    download: fetch what is absent into ``root``, where there is a place to fetch it from.
    """
    info = DATA[name]
    if not info.bundled and root is None:
        raise UsageError(f"data {name!r} is not bundled: {info.remedy}")
    _family(name).check(name, root, download)


def _family(name: str) -> Any:
    return importlib.import_module(f".{DATA[name].family}", __name__)
