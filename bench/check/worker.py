"""One fresh process of the check: ``python -m bench.check.worker ANSWER`` reads an order from standard input."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import torch

from phnn.timing import no_sync

from ..machine import watch
from ..plan.sweep import Protocol
from ..task.parent import follow_parent
from . import peers, work
from .messages import Answer, Kernel, Order, Pair, Timed


def answer(order: Order) -> Answer:
    """Do what the order says."""
    make = functools.partial(work.build, device=order.device)
    sync = torch.cuda.synchronize if order.device == "cuda" else no_sync
    sample = work.sampler(order.protocol, order.device, order.repetition)

    def time_them(pairs: list[Pair]) -> list[Timed]:
        return work.time_pairs(pairs, make, sample, order.limit, order.repetition)

    kernels = _kernels(order, make, sync)
    before = watch.look(order.device)
    pairs = _pairs(order, time_them)
    found = Answer(
        kernels=kernels,
        pairs=pairs,
        watch=watch.between(before, watch.look(order.device)),
        sequential=[
            peers.one_after_the_other(*_callables(pair, make), peers.torch_benchmark(order.threads, seconds))
            for pair, seconds in order.sequential
        ],
    )
    if not order.peers:
        return found
    timers, absent = peers.at_hand(order.device, order.threads, sync)
    brief = Protocol(precision=order.protocol.precision, budget=peers.SECONDS, placements=1)
    ours = peers.ours(work.sampler(brief, order.device, order.repetition))
    calls = [work.repeated(make(kernel), 20) for kernel in order.peers]
    ratios = peers.over_ours(calls, ours, timers, order.repetition)
    return found.model_copy(update={"peers": ratios, "absent": absent})


def _pairs(order: Order, time_them: Callable[[list[Pair]], list[Timed]]) -> list[Timed]:
    """A process that may be cut short keeps the order that was drawn: what it leaves out is then any of them."""
    if order.limit is not None:
        return time_them(order.pairs)
    return work.in_random_order(order.pairs, order.repetition, time_them)


def _callables(pair: Pair, make: functools.partial[work.Call]) -> tuple[work.Call, work.Call]:
    first, second = (work.repeated(make(pair.kernel), times) for times in pair.calls)
    return first, second


def _kernels(order: Order, make: functools.partial[work.Call], sync: Callable[[], None]) -> list[Kernel]:
    if not order.durations:
        return []

    def seconds_of(kernel: Kernel) -> float:
        with torch.inference_mode():
            return work.brief_seconds(make(kernel), sync)

    return work.kernels(order.durations, seconds_of)


def main(order_text: str, path: Path) -> None:
    """Answer an order, and write the answer whole."""
    order = Order.model_validate_json(order_text)
    torch.set_num_threads(order.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    found = answer(order)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(found.model_dump_json(), encoding="utf-8")
    temporary.replace(path)


if __name__ == "__main__":
    order_line = sys.stdin.readline()
    threading.Thread(target=follow_parent, daemon=True).start()
    main(order_line, Path(sys.argv[1]))
