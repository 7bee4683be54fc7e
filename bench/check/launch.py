"""The check's processes on this machine."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..launch.processes import Worker, ending, last_line
from ..machine import env
from . import idle
from .messages import Answer, Order
from .session import CheckFailedError, Machine


@contextlib.contextmanager
def local(device: str) -> Iterator[Machine]:
    """This machine; whatever was started ends with the block."""
    with tempfile.TemporaryDirectory(prefix="bench-check-") as name:
        folder = Path(name)
        worker = Worker()

        def launch(order: Order) -> Answer:
            log, path = folder / "worker.log", folder / "answer.json"
            args = ["bench.check.worker", str(path)]
            code = worker.run(args, order.model_dump_json(), order.threads, None, log)
            if code != 0:
                raise CheckFailedError(f"a process ended with {ending(code)}; {last_line(log)}")
            return Answer.model_validate_json(path.read_text(encoding="utf-8"))

        @contextlib.contextmanager
        def load() -> Iterator[None]:
            log = folder / "load.log"
            with worker.beside(["bench.check.load"], log) as process:
                yield
                if process.poll() is not None:
                    raise CheckFailedError(f"the load ended before its time; {last_line(log)}")

        try:
            yield Machine(
                device=device,
                cores=env.identity("cpu")["cores"],
                launch=launch,
                load=load,
                look_on=lambda: idle.look_on(device),
            )
        finally:
            worker.stop()
