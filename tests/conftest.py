"""What every test may use: whole products on demand, and system packages that a machine may lack."""

from __future__ import annotations

import ctypes
import shutil
import signal
import sys
from collections.abc import Callable

import pytest

_PR_SET_PDEATHSIG = 1


@pytest.fixture(scope="session")
def tied() -> Callable[[], object] | None:
    """A ``preexec_fn`` for what a test starts: the kernel ends it with the test run, even one that is killed.

    It hears Ctrl-C, too, where the test run does not: a shell without a terminal starts what is in the background so.
    """
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)

    def tie() -> None:
        library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    return tie


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="whole products of options instead of pairwise coverage")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """``@pytest.mark.system("g++")``: skip where that program lacks; CI installs them all and fails on such a skip."""
    for marker in item.iter_markers("system"):
        (program,) = marker.args
        if shutil.which(program) is None:
            pytest.skip(f"needs the system package {program}")
