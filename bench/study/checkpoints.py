"""Where the checkpoints of trainings lie in a run folder, and when they go. No torch.

<run>/checkpoints/<task id>-<place>/<code revision>/     the stages of one training, while it is under way
"""

from __future__ import annotations

import shutil
from pathlib import Path


def folder_of(run: Path, task_id: str, code_rev: str, place: str) -> Path:
    """The folder of one training by one revision of the code, on one machine or kind of hardware."""
    return _of_task(run, task_id, place) / code_rev


def discard(run: Path, task_id: str, place: str) -> None:
    """Remove what is kept of a training, by any revision: it is finished."""
    folder = _of_task(run, task_id, place)
    if folder.exists():
        shutil.rmtree(folder)


def _of_task(run: Path, task_id: str, place: str) -> Path:
    return run.resolve() / "checkpoints" / f"{task_id}-{place}"
