"""What every micro-benchmark says of the machine, and on which device it runs."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="cpu or cuda: where the micro-benchmarks run")


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(config, machine_info):
    """The identity that every record of the harness has: what env.json says of a run."""
    from bench import env

    machine_info["bench"] = env.describe(config.getoption("--device", "cpu"))
