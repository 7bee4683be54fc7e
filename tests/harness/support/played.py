"""Runs whose engine starts no process, and what a watcher of them is told."""

import time

from engines import Instant, sound

from bench.plan import expansion, sweep
from bench.schedule import run
from bench.schedule.resume import Place
from bench.store.folder import Store, read_plan, read_tasks
from bench.table.records import derive


class Watcher:
    """Remembers what it is told."""

    def __init__(self):
        self.told = []

    def start(self, total, done, seconds):
        self.counts = (total, done)

    def begin(self, task, attempt, hardware=""):
        self.told.append(("begin", task.id, attempt))

    def again(self, task, reason, hardware=""):
        self.told.append(("again", task.id, reason))

    def skip(self, task, reason, hardware=""):
        self.told.append(("skip", task.id, hardware))

    def end(self, task, line, seconds):
        self.told.append(("end", task.id, seconds))


def go(path, folder, answer=sound, engine=None, clock=time.monotonic, **options):
    """A run into a folder: its summary, what was told, and what the engine was asked."""
    loaded, watcher, engine = sweep.load(path), Watcher(), engine or Instant(answer)
    with Store(folder) as store:
        asked = run.Options(**{"places": (Place(env_id="cpu-x"),), **options})
        return run.run(loaded, expansion.expand(loaded), store, watcher, engine, asked, clock), watcher, engine


def failing(status):
    """An answer in which every case failed."""

    def answer(order):
        reply = sound(order)
        for result in reply.results:
            result.status, result.reason = status, "a bad day"
        return reply

    return answer


def statuses(folder):
    return {record["status"] for record in derive(read_plan(folder), read_tasks(folder))}
