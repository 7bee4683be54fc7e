"""The largest batch that fits, on a device that is a number of bytes: no GPU, no real time."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.measure.largest_batch import LIMIT, RESOLUTION, UnaskedError, largest_batch, search
from bench.plan.case import Case
from bench.plan.sweep import Protocol
from bench.task.protocol import Request, Result
from bench.task.static import _largest_batch, measured

CASE = Case("linear", "layer", "quaternion", 4, (("batch", 8), ("channels", 8), ("out_channels", None)))


@dataclass
class FakeCuda:
    """What the search asks of ``torch.cuda``: a net that takes ``fixed + each * batch`` bytes, and what is free.

    leak: bytes that an earlier trial keeps until all is forgotten; refuse: what a call says that finds no memory.
    """

    free: int = 1000
    fixed: int = 100
    each: int = 7
    tried: list[int] = field(default_factory=list)
    taken: int = 0
    peak: int = 0
    calls: int = 0
    refuse: type[Exception] | Exception = torch.OutOfMemoryError

    def make(self, case: Case, device: str, controlled: Case | None):
        assert device == "cuda"
        batch = dict(case.shape)["batch"]
        self.tried.append(batch)
        self.calls = 0

        def call() -> None:
            self.calls += 1
            # the optimiser's state comes with the second step
            wanted = (self.fixed if self.calls > 1 else self.fixed // 2) + self.each * batch
            if self.taken + wanted > self.free:
                raise self.refuse
            self.peak = max(self.peak, self.taken + wanted)
            if self.calls > 1:
                self.taken += wanted  # kept until it is given back

        return type("Subject", (), {"call": staticmethod(call)})

    @property
    def fitting(self) -> int:
        return (self.free - self.fixed) // self.each

    def synchronize(self) -> None: ...

    def empty_cache(self) -> None:
        self.taken = 0

    def reset_peak_memory_stats(self) -> None:
        self.peak = self.taken

    def max_memory_reserved(self) -> int:
        return self.peak

    def memory_reserved(self) -> int:
        return self.taken

    def mem_get_info(self) -> tuple[int, int]:
        return self.free - self.taken, 2 * self.free


@pytest.fixture(autouse=True)
def _nothing_to_collect(monkeypatch):
    """A fake holds no tensors, and the test's own process is a large heap."""
    monkeypatch.setattr("bench.measure.largest_batch.gc.collect", lambda: 0)


def find(cuda: FakeCuda):
    return largest_batch(CASE, "cuda", make=cuda.make, cuda=cuda)


@pytest.mark.parametrize("free", [108, 130, 200, 1000, 10**5, 7 * 10**6])
def test_what_is_found_fits_and_a_64th_more_does_not(free):
    cuda = FakeCuda(free=free)
    found = find(cuda)
    assert found.batch <= cuda.fitting < found.refused
    assert found.refused - found.batch <= max(1, RESOLUTION * found.batch)
    assert found.capacity == free
    assert found.peaks[found.batch] == 100 + 7 * found.batch


def test_few_trials_are_made_since_memory_grows_in_proportion():
    """Each trial builds a net and runs it twice at the size of the whole device."""
    cuda = FakeCuda(free=10**9, fixed=10**6, each=10**5)
    find(cuda)
    assert cuda.fitting > 1000 * cuda.tried[0]
    assert len(cuda.tried) <= 7, cuda.tried


def test_the_peak_is_that_of_the_second_call_which_has_the_optimisers_state():
    assert find(FakeCuda(free=1000, fixed=600, each=100)).batch == 4


def test_a_trial_leaves_nothing_to_the_next():
    assert find(FakeCuda(free=10**6)).batch > 0.98 * (10**6 - 100) / 7


def test_a_start_that_does_not_fit_is_halved():
    cuda = FakeCuda(free=130)
    assert cuda.fitting == 4
    assert find(cuda).batch == 4
    assert cuda.tried[:2] == [8, 4]


def test_where_not_even_one_example_fits_the_device_is_out_of_memory():
    with pytest.raises(torch.OutOfMemoryError, match="not even a batch of 1"):
        find(FakeCuda(free=50))


def test_a_library_that_cannot_allocate_is_out_of_memory_and_other_errors_are_errors():
    cuda = FakeCuda(refuse=RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"))
    assert find(cuda).batch == FakeCuda().fitting
    with pytest.raises(RuntimeError, match="illegal"):
        find(FakeCuda(refuse=RuntimeError("CUDA error: an illegal memory access was encountered")))


def test_a_call_that_never_lacks_memory_ends_at_the_limit():
    found = search(lambda batch: 100, 8, 10**6)
    assert (found.batch, found.refused) == (LIMIT, None)
    assert search(lambda batch: 100, 4 * LIMIT, 10**6).batch == 4 * LIMIT


@settings(max_examples=200, deadline=None)
@given(
    fits=st.integers(0, 5000),
    start=st.integers(1, 300),
    power=st.floats(0.3, 2.0),
    steps=st.integers(1, 1000),
)
def test_however_memory_grows_the_answer_is_right(fits, start, power, steps):
    """Growth that is no line, and an allocator that takes memory in steps: only that less fits where more does not."""
    tried = []

    def trial(batch: int) -> int | None:
        tried.append(batch)
        return None if batch > fits else math.ceil(1000 * batch**power / steps) * steps

    found = search(trial, start, int(1000 * (fits + 1) ** power))
    assert found.batch <= fits < found.refused
    assert found.refused - found.batch <= max(1, RESOLUTION * found.batch)
    assert len(set(tried)) == len(tried) <= 40


def test_on_a_cpu_it_is_unsupported_with_the_reason():
    with pytest.raises(UnaskedError, match="CUDA"):
        largest_batch(CASE, "cpu")
    request = Request(
        kind="static",
        cases=[CASE.factors],
        metrics=["params", "largest_batch"],
        repetition=0,
        device="cpu",
        threads=1,
        protocol=Protocol(),
    )
    (result,) = measured(request)
    assert result.status == "ok"
    assert result.values["params"] > 0
    assert "swaps" in result.unsupported["largest_batch"]


def test_what_is_found_is_a_value_with_its_trials_in_the_details(monkeypatch):
    cuda = FakeCuda()
    monkeypatch.setattr(
        "bench.task.static.largest_batch.largest_batch",
        lambda case, device, controlled: largest_batch(case, device, controlled, make=cuda.make, cuda=cuda),
    )
    result = Result(case_id=CASE.id)
    _largest_batch(result, CASE, "cuda", None)
    assert result.values == {"largest_batch": cuda.fitting}
    assert cuda.fitting < result.details["largest_batch"]["refused"] <= cuda.fitting + 2
    Result.model_validate_json(result.model_dump_json())
