"""The registry's layers under pytest-benchmark, for developers: ``make bench-micro``.

Without ``--benchmark-enable`` each is called once, which is what the test suite does: it asserts that the timing code
runs, not a time. The JSON of a session names the case that each benchmark is, and ``bench merge`` takes it.
"""

from __future__ import annotations

import pytest
import torch

from bench.importers.pytest_benchmark import TIMER
from bench.plan.case import Case
from bench.task.subject import build, first
from phnn.algebras import algebra
from phnn.registry import specs

RULES = (("real", None), ("quaternion", None), ("ph", 4))
PHASES = ("infer", "train_step")


def cases() -> list[Case]:
    """Every layer of ours at the shape that it is registered with, over each rule that it can be built over."""
    found = {}
    for spec in specs("layer"):
        for name, n in RULES:
            rule = algebra(name, n)
            if spec.target.partition(".")[0] != "phnn" or spec.constraints(rule, spec.shape):
                continue
            own = ("none", 1, "none") if spec.algebras == () else (rule.name, rule.n, "auto")
            path = own[2] if spec.paths and rule.name != "real" else "none"
            for phase in PHASES:
                # beside its twin or not: a benchmark is in no group
                case = Case(
                    spec.name, "layer", own[0], own[1], tuple(sorted(spec.shape.items())),
                    phase=phase, timer=TIMER, path=path,
                )  # fmt: skip
                found[case.id] = case
    return list(found.values())


def name_of(case: Case) -> str:
    return "-".join([case.subject, case.algebra if case.algebra != "ph" else f"ph{case.n}", case.phase])


@pytest.mark.parametrize("case", cases(), ids=name_of)
def test_layer(benchmark, case, request):
    device = request.config.getoption("--device", "cpu")
    subject = build(case, device)
    benchmark.group = f"{case.subject} {case.phase}"
    benchmark.extra_info |= {"case": case.factors, "threads": torch.get_num_threads()}
    found = benchmark(subject.call)
    benchmark.extra_info["path_built"] = subject.path_built
    if case.phase == "infer":
        assert torch.isfinite(first(found)).all()
