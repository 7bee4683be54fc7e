"""Sweeps of faults, and the commands that run them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = Path(__file__).parent / "src"


class Bench:
    """``bench`` as a person would run it, with the faulty layer allowed; light: with workers that load no torch."""

    plugin = "phnn_faults.specs:LAYERS"

    def __init__(self, scratch):
        self.scratch = scratch  # what a killed run leaves in the folder for temporary files

    def command(self, *args, light=True):
        program = "light_bench" if light else "bench"
        return [sys.executable, "-m", program, *map(str, args), "--plugin", self.plugin]

    @property
    def environment(self):
        return {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{SOURCES}",
            "TMPDIR": str(self.scratch),
        }

    def __call__(self, *args, light=True):
        return subprocess.run(
            self.command(*args, light=light), capture_output=True, text=True, env=self.environment, timeout=600
        )

    def start(self, *args, light=True):
        return subprocess.Popen(
            self.command(*args, light=light), env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )


@pytest.fixture(scope="session")
def bench(tmp_path_factory):
    return Bench(tmp_path_factory.mktemp("scratch"))
