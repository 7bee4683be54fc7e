"""Where the checkpoints of trainings lie in a run folder, and when they go. No torch.

<run>/checkpoints/<task id>-<code revision>/     the stages of one training, while it is under way
"""

from __future__ import annotations

import shutil
from pathlib import Path


def folder_of(run: Path, task_id: str, code_rev: str) -> Path:
    """The folder of one training by one revision of the code."""
    return run.resolve() / "checkpoints" / f"{task_id}-{code_rev}"


def discard(run: Path, task_id: str) -> None:
    """Remove what is kept of a training, by any revision: it is finished."""
    for folder in (run / "checkpoints").glob(f"{task_id}-*"):
        shutil.rmtree(folder)
