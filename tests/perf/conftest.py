"""What every micro-benchmark says of the machine, and on which device it runs."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="cpu or cuda: where the micro-benchmarks run")


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(config, machine_info):
    """The identity that every record of the harness has; sessions that differ in it are compared with a warning."""
    from bench.machine import env

    device = config.getoption("--device", "cpu")
    machine_info["bench"] = {"env_id": env.env_id(device), "identity": env.identity(device)}


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_commit_info(config, commit_info):
    from bench.machine import env

    commit_info["code_rev"] = env.code_rev()
