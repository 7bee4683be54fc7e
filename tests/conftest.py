"""What every test may use: whole products on demand, and system packages that a machine may lack."""

from __future__ import annotations

import shutil

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="whole products of options instead of pairwise coverage")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """``@pytest.mark.system("g++")``: skip where that program lacks; CI installs them all and fails on such a skip."""
    for marker in item.iter_markers("system"):
        (program,) = marker.args
        if shutil.which(program) is None:
            pytest.skip(f"needs the system package {program}")
