"""pytest-benchmark as a timer of a callable that lives here: a pytest session within this process."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from .work import Call

_TEST = "def test_callable(benchmark, given):\n    given.take(benchmark)\n"


class _Given:
    """The plug-in that hands a callable to the session and takes the median back."""

    def __init__(self, call: Call, sync: Callable[[], None]) -> None:
        self.call, self.sync = call, sync
        self.seconds: float | None = None

    @pytest.fixture
    def given(self) -> _Given:
        return self

    def take(self, benchmark: Any) -> None:
        """The body of the one test."""

        def call() -> None:
            self.call()
            self.sync()

        benchmark(call)
        self.seconds = float(benchmark.stats.stats.median)


def pytest_benchmark(sync: Callable[[], None], seconds: float) -> Callable[[Call], float]:
    """pytest-benchmark's median of calls that take ``seconds`` in all.

    The session takes nothing from the folder that it happens to run in, and loads no other plug-in.
    """

    def measure(call: Call) -> float:
        given = _Given(call, sync)
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            test = Path(folder) / "test_callable.py"
            test.write_text(_TEST, encoding="utf-8")
            args = [
                str(test), "--quiet", "-c", os.devnull, f"--rootdir={folder}", "--import-mode=importlib",
                "-p", "pytest_benchmark.plugin", "-p", "no:cacheprovider",
                "--capture=no",  # capturing takes standard input, which a worker watches for its parent's end
                f"--benchmark-max-time={seconds}", "--benchmark-min-rounds=5",
            ]  # fmt: skip
            alone = patch.dict(os.environ, {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})
            with alone, contextlib.redirect_stdout(sys.stderr):  # unbuffered: what comes last was said last
                code = pytest.main(args, plugins=[given])
        if code != 0 or given.seconds is None:
            raise RuntimeError(f"pytest-benchmark ended with {code!r} and no time; the lines above say why")
        return given.seconds

    return measure
