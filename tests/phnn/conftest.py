"""What the tests of phnn share: the helpers in support/, one thread, and a seed before each test."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "support"))


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Small tensors gain nothing from more, and lose much where several suites share a machine."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seed() -> Iterator[None]:
    """Every test draws the same numbers, alone or after others."""
    import torch

    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    yield
    torch.random.set_rng_state(state)


@pytest.fixture
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Searched decompositions and built kernels are kept apart from those of the user, for all tests of a run."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
