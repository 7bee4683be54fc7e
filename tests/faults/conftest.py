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

    def __init__(self, scratch, tied):
        self.scratch = scratch  # for temporary files, which a killed run leaves; whoever was given it is one of ours
        self.tied = tied

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
            self.command(*args, light=light),
            capture_output=True, text=True, env=self.environment, timeout=600, preexec_fn=self.tied,
        )  # fmt: skip

    def start(self, *args, light=True, stderr=subprocess.STDOUT):
        return subprocess.Popen(
            self.command(*args, light=light),
            env=self.environment, stdout=subprocess.PIPE, stderr=stderr, preexec_fn=self.tied,
        )  # fmt: skip


@pytest.fixture(scope="session")
def bench(tmp_path_factory, tied):
    return Bench(tmp_path_factory.mktemp("scratch"), tied)
