"""Processes that write into a run folder and are killed: ``python writers.py FOLDER TASKS KILLS WRITERS SEED``.

Each writer claims tasks and finishes them, one after the other, until all are done; after each it notes in a pipe that
the store took it. Writers are forked from this process, which has loaded the store once, killed with SIGKILL at random
moments, and replaced, until KILLS were killed; the last ones are let finish. Prints what was noted, a line each.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from handmade import case, static  # noqa: E402

from bench.store.folder import Store  # noqa: E402


def write(folder: Path, names: list[str], rng: random.Random, pipe: int) -> None:
    """Do all tasks that nobody else does; wait for those that others hold."""
    with Store(folder) as store:
        done = {line["task_id"] for line in store.tasks()}
        while open_ := [name for name in names if name not in done]:
            ours = store.claim(rng.sample(open_, min(3, len(open_))))
            for name in ours:
                time.sleep(rng.random() * 0.002)
                store.add_task({**static(case()), "task_id": name})
                os.write(pipe, f"{name}\n".encode())
                done.add(name)
            done |= {line["task_id"] for line in store.news()}
            if not ours:
                time.sleep(0.002)


def start(*args) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        write(*args)
        code = 0
    finally:
        os._exit(code)


def main(folder: Path, tasks: int, kills: int, writers: int, seed: int) -> None:
    rng = random.Random(seed)
    names = [f"task-{i}" for i in range(tasks)]
    reading, writing = os.pipe()

    def new() -> int:
        return start(folder, names, random.Random(rng.random()), writing)

    running = [new() for _ in range(writers)]
    for _ in range(kills):
        time.sleep(rng.random() * 0.03)
        victim = rng.choice(running)
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        running[running.index(victim)] = new()
    codes = [os.waitpid(child, 0)[1] for child in running]
    os.close(writing)
    with os.fdopen(reading) as noted:
        print(noted.read(), end="")
    sys.exit(max(os.waitstatus_to_exitcode(code) for code in codes))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
