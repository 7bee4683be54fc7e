"""Measure every timing target and print it with its interval: ``make targets``; ARGS=word picks those with the word."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def main(words: list[str]) -> None:
    """Measure the targets whose module or name holds one of ``words`` (all without any)."""
    for path in sorted(Path(__file__).parent.glob("targets_*.py")):
        for target in importlib.import_module(path.stem).TARGETS:
            if not words or any(word in target.name or word in path.stem for word in words):
                print(target.line(target.measure()), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
