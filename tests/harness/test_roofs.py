"""Roofs: the calibration under a clock that the test moves, the roof over a call, and the rows that come of it."""

import itertools
import json
import random
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from bench.errors import UsageError
from bench.machine import caches, calibrate, roofs
from bench.machine.roofs import Rates, Roofs, roof
from bench.measure import energy
from bench.plan.case import Planned
from bench.schedule.run import plan_lines
from bench.table.records import derive

KIB, MIB = 2**10, 2**20
RATES = Rates(
    threads=2,
    flops={"float32": 1e11, "bfloat16": 4e11},
    copied={MIB: 8e10, 64 * MIB: 1e10},
    read={MIB: 1e11, 64 * MIB: 1.2e10},
    unsupported={"tf32": "tf32 is an arithmetic of CUDA devices"},
)


def made(**changes):
    fields = {
        "env_id": "cpu-x", "device": "cpu", "rates": [RATES], "launch": 1e-6, "timer": 4e-8,
        "caches": {"L3": 32 * MIB}, "caches_by": "os", "measured": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    return Roofs(**fields | changes)


def over(flop, moved, arithmetic="float32", threads=2, cold=False):
    return roof(made(), flop=flop, moved=moved, arithmetic=arithmetic, threads=threads, cold=cold)


def test_the_roof_is_the_lower_of_peak_and_bandwidth():
    compute, memory = over(10**9, 10**6), over(10**6, 100 * MIB)
    assert (compute.bound, compute.seconds) == ("compute", pytest.approx(1e-2))
    assert (memory.bound, memory.seconds) == ("memory", pytest.approx(100 * MIB / 1.2e10))
    # seconds are FLOP over min(peak, intensity x bandwidth)
    assert 10**6 / memory.seconds == pytest.approx(min(1e11, 10**6 / (100 * MIB) * 1.2e10))


def test_a_peak_is_that_of_the_arithmetic():
    assert over(10**9, 8, "bfloat16").seconds == pytest.approx(10**9 / 4e11)
    factors = {"precision": "none", "dtype": "float32"}
    assert roofs.arithmetic_of(factors) == "float32"
    assert roofs.arithmetic_of({**factors, "precision": "amp_bf16"}) == "bfloat16"
    assert roofs.arithmetic_of({**factors, "precision": "tf32"}) == "tf32"


def test_what_fits_a_cache_has_the_caches_bandwidth_unless_the_timer_is_cold():
    assert over(1, 512 * KIB).bandwidth == 1e11
    assert over(1, 2 * MIB).bandwidth == 1.2e10
    assert over(1, 1000 * MIB).bandwidth == 1.2e10
    assert over(1, 512 * KIB, cold=True).bandwidth == 1.2e10


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"threads": 3}, "measured at 2 threads, not at 3: bench env --calibrate --threads 3"),
        ({"arithmetic": "tf32"}, "no peak for tf32: tf32 is an arithmetic of CUDA devices"),
        ({"arithmetic": "float64"}, "it was not measured"),
        ({"flop": 0}, "nothing in it multiplies"),
    ],
)
def test_where_there_is_no_roof_there_is_a_reason(call, words):
    assert words in over(**{"flop": 1, "moved": 1, **call})


def test_a_device_that_does_not_count_threads_has_one_roof():
    gpu = made(rates=[RATES.model_copy(update={"threads": 0})])
    assert roof(gpu, flop=1, moved=1, arithmetic="float32", threads=16, cold=False).peak == 1e11


# ---------------------------------------------------------------------------------------------------- kept


def test_roofs_are_kept_and_read_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = roofs.kept_at("cpu-x")
    assert path.is_relative_to(tmp_path)
    assert roofs.load(path) is None
    roofs.save(path, made())
    assert roofs.load(path) == made()


@pytest.mark.parametrize("text", ["", "{}", '{"format": 2}', "[1", '{"nonsense": 1}'])
def test_a_damaged_file_of_roofs_is_named_with_the_remedy(tmp_path, text):
    path = tmp_path / "roofs.json"
    path.write_text(text)
    with pytest.raises(UsageError, match="holds no roofs of format 1: remove it, then bench env --calibrate"):
        roofs.load(path)


# ------------------------------------------------------------------------------------------------ measuring


class Clock:
    """Seconds that only work moves."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def machine(monkeypatch):
    """A machine of 1e11 FLOP/s whose calls take 1e-4 s at least, and up to half more when something else runs."""
    clock, noise = Clock(), random.Random(1)

    def spend(seconds):
        def call():
            clock.now += seconds * (1 + 0.5 * noise.random() * (noise.random() < 0.5))

        return call

    monkeypatch.setattr(calibrate, "_product", lambda size, dtype, device: spend(max(1e-4, 2 * size**3 / 1e11)))
    monkeypatch.setattr(calibrate, "_copy", lambda size, device: spend(size / 1e10))
    monkeypatch.setattr(calibrate, "_read", lambda size, device: spend(size / 2e10))
    return calibrate.Bench("cpu", clock=clock, budget=5.0)


def test_the_peak_is_that_of_the_best_size_in_its_best_round(machine):
    assert calibrate.peak(machine, "float32") == pytest.approx(1e11, rel=0.05)


def test_a_slow_arithmetic_is_not_tried_at_larger_sizes(machine, monkeypatch):
    tried = []

    def product(size, dtype, device):
        tried.append(size)
        return lambda: setattr(machine.clock, "now", machine.clock.now + 0.08 * size / 256)

    monkeypatch.setattr(calibrate, "_product", product)
    calibrate.peak(machine, "float16")
    assert tried == [256, 512, 1024]


def test_a_product_that_does_not_fit_leaves_the_peak_of_those_that_do(machine, monkeypatch):
    fits = calibrate._product

    def product(size, dtype, device):
        if size > 512:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return fits(size, dtype, device)

    monkeypatch.setattr(calibrate, "_product", product)
    assert calibrate.peak(machine, "float32") == pytest.approx(1e11, rel=0.05)


def test_a_gpus_working_sets_follow_its_l2_cache_and_its_free_memory(monkeypatch):
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(L2_cache_size=50 * MIB))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (80 * 2**30, 80 * 2**30))
    assert calibrate._caches("cuda") == {"L2": 50 * MIB}
    assert calibrate._working_sets("cuda")[-1] == 256 * MIB


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_real_gpu_has_roofs_a_watch_and_an_energy_counter(monkeypatch):
    monkeypatch.setitem(calibrate._SIZES, "cuda", (1024,))
    found = calibrate.calibrate("cuda", budget=0.0)
    assert found.rates[0].flops["bfloat16"] > found.rates[0].flops["float32"] > 0
    seen = found.watch["gpu"]
    assert "clock" in seen or "absent" in seen
    counter = energy.counter_of("cuda")
    first = counter()
    assert counter() >= first > 0


def test_tf32_has_no_peak_on_a_cpu_and_the_reason_is_kept(machine):
    rates = calibrate._rates(machine, 1, [MIB])
    assert set(rates.flops) == {"float64", "float32", "bfloat16", "float16"}
    assert rates.unsupported == {"tf32": "tf32 is an arithmetic of CUDA devices"}


def test_bandwidths_count_what_is_read_and_written(machine):
    copied, read = calibrate.bandwidths(machine, [MIB, 2 * MIB])
    assert copied == pytest.approx(dict.fromkeys((MIB, 2 * MIB), 1e10), rel=0.1)
    assert read == pytest.approx(dict.fromkeys((MIB, 2 * MIB), 2e10), rel=0.1)


def test_working_sets_double_to_four_times_the_last_level_cache(monkeypatch):
    monkeypatch.setattr(caches, "last_level", lambda: 32 * MIB)
    monkeypatch.setattr(calibrate.psutil, "virtual_memory", lambda: type("", (), {"available": 2**40}))
    sizes = calibrate._working_sets("cpu")
    assert (sizes[0], sizes[-1]) == (calibrate.SMALLEST, 128 * MIB)
    assert all(b == 2 * a for a, b in itertools.pairwise(sizes))


def test_a_small_machine_is_not_filled(monkeypatch):
    monkeypatch.setattr(caches, "last_level", lambda: 2**30)
    monkeypatch.setattr(calibrate.psutil, "virtual_memory", lambda: type("", (), {"available": 2**30}))
    assert 4 * sum(calibrate._working_sets("cpu")) <= 2**30


def test_the_real_kernels_touch_as_many_bytes_as_they_are_said_to(monkeypatch):
    """A copy is half read, half written; a product of matrix and vector reads the matrix."""
    seen = {}
    monkeypatch.setattr(torch, "mv", lambda matrix, vector, out: seen.update(read=matrix.nbytes))
    monkeypatch.setattr(torch.Tensor, "copy_", lambda self, other: seen.update(copy=self.nbytes + other.nbytes))
    calibrate._copy(MIB, "cpu")()
    calibrate._read(MIB, "cpu")()
    assert seen == {"copy": MIB, "read": MIB}


def test_a_clock_that_ticks_has_its_tick_as_resolution():
    readings = iter([step // 3 * 0.5 for step in range(1000)])
    assert calibrate.resolution(lambda: next(readings), readings=20) == 0.5


def test_a_real_calibration_is_whole(monkeypatch):
    """Small sizes and no budget: every figure is there and positive, and it survives JSON."""
    monkeypatch.setitem(calibrate._SIZES, "cpu", (64,))
    monkeypatch.setattr(calibrate, "_working_sets", lambda device: [MIB // 4, MIB // 2, MIB])
    before = torch.get_num_threads()
    monkeypatch.setattr(calibrate.env, "identity", lambda device: {"cores": 1})
    monkeypatch.setattr(calibrate.env, "env_id", lambda device: "cpu-x")
    found = calibrate.calibrate("cpu", threads=[2], budget=0.0)
    assert torch.get_num_threads() == before
    assert [rates.threads for rates in found.rates] == [1, 2]
    rates = found.rates[0]
    figures = [found.launch, found.timer, *rates.flops.values(), *rates.copied.values(), *rates.read.values()]
    assert all(figure > 0 for figure in figures)
    assert found.watch["seconds"] > 0
    assert Roofs.model_validate_json(found.model_dump_json()) == found


# ---------------------------------------------------------------------------------------------------- caches


def cache(cpus, core, index, level, kind, size, cores):
    folder = cpus / f"cpu{core}" / "cache" / f"index{index}"
    folder.mkdir(parents=True)
    for name, text in (("level", level), ("type", kind), ("size", size), ("shared_cpu_list", cores)):
        (folder / name).write_text(f"{text}\n")


def test_cache_sizes_are_read_from_sysfs_and_instructions_left_out(tmp_path):
    for core in (0, 1):
        cache(tmp_path, core, 0, 1, "Data", "48K", core)
        cache(tmp_path, core, 1, 1, "Instruction", "32K", core)
        cache(tmp_path, core, 2, 2, "Unified", "1024K", core)
        cache(tmp_path, core, 3, 3, "Unified", "32M", core)
    assert caches.from_os(tmp_path) == {"L1d": 48 * KIB, "L2": MIB, "L3": 32 * MIB}
    assert caches.last_level(tmp_path) == 64 * MIB, "each of the two cores has one of its own"


def test_a_shared_last_level_cache_is_counted_once(tmp_path):
    for core in (0, 1):
        cache(tmp_path, core, 3, 3, "Unified", "32M", "0-1")
    assert caches.last_level(tmp_path) == 32 * MIB


def test_a_system_that_does_not_tell_gives_nothing(tmp_path):
    assert caches.from_os(tmp_path) == {}
    assert caches.last_level(tmp_path) == 0
    cache(tmp_path, 0, 0, 1, "Data", "", 0)
    assert caches.from_os(tmp_path) == {}


def test_where_the_system_does_not_tell_bandwidths_do():
    steps = {MIB * 2**k: rate for k, rate in enumerate([9e10, 5e10, 3e10, 2.9e10, 1.1e10, 1e10])}
    assert caches.from_bandwidths(steps) == 8 * MIB
    assert caches.from_bandwidths(dict.fromkeys(steps, 1e10)) is None, "no cache shows"


# ------------------------------------------------------------------------------------------------------ rows


@pytest.fixture
def lines(planned):
    """The tiny sweep's cases with efficiency and energy asked for, and their finished tasks in two processes."""
    metrics = {"latency", "efficiency", "energy", "arithmetic_intensity", "numeric_error"}
    planned = [replace_metrics(p, metrics) for p in planned]

    def make(watch=None, details=None, **fields):
        own = []
        for repetition, seconds in enumerate(([4.0, 4.0, 4.0], [1.0, 1.0, 1.0])):
            timing = {"threads": 2, "watch": (watch or [{}, {}])[repetition]}
            results = [result(p, seconds=seconds, details=timing, values={"energy": 3.0}, **fields) for p in planned]
            own.append(task("timing", results, f"t{repetition}", siblings=2, repetition=repetition))
        for p in planned:
            counted = {"traffic": {"flop": 10**11, "bytes": 8}} if details is None else details
            values = {"arithmetic_intensity": 10**11 / 8, "numeric_error": 0.0}
            own.append(task("static", [result(p, values=values, details=counted)], f"s{p.case.id}"))
        return own

    return planned, make


def replace_metrics(p, metrics):
    return Planned(replace(p.case), frozenset(metrics))


def result(p, **fields):
    empty = {"reason": "", "path_built": "dense", "values": {}, "unsupported": {}, "seconds": [], "details": {}}
    return {"case_id": p.case.id, "status": "ok", **empty, **fields}


def task(kind, results, task_id, siblings=1, repetition=0):
    return {
        "task_id": task_id, "chunk_id": kind, "kind": kind, "repetition": repetition, "siblings": siblings,
        "started": "2026-01-01T00:00:00+00:00", "wall": 1.0, "results": results, "env_id": "cpu-x",
        "code_rev": "c1", "protocol_version": 1,
    }  # fmt: skip


def row(planned, own, metric, measured=None):
    found = derive(plan_lines(planned), own, {measured.env_id: measured} if measured else None)
    return next(r for r in found if r["metric"] == metric and r["variant"] == "quaternion")


def test_efficiency_is_the_time_at_the_roof_over_the_latency(lines):
    planned, make = lines
    latency, found = row(planned, make(), "latency"), row(planned, make(), "efficiency", made())
    assert found["status"] == "ok"
    for end, other in (("value", "value"), ("lo", "hi"), ("hi", "lo")):
        assert found[end] == pytest.approx(1.0 / latency[other])  # 1e11 FLOP at 1e11 FLOP/s
    assert json.loads(found["details"])["roof"]["bound"] == "compute"
    assert found["unit"] == "1"


@pytest.mark.parametrize(
    ("measured", "words"),
    [(None, "no roofs of cpu-x: there are none; bench env --calibrate"), (made(env_id="cpu-y"), "are of cpu-y")],
)
def test_without_the_machines_roofs_there_is_a_reason_and_no_value(lines, measured, words):
    planned, make = lines
    found = row(planned, make(), "efficiency", measured)
    assert (found["status"], found["value"]) == ("unsupported", None)
    assert words in found["reason"]


def test_efficiency_waits_for_a_count_that_was_not_asked_for_before(lines):
    planned, make = lines
    with pytest.raises(StopIteration):
        row(planned, make(details={}), "efficiency", made())


def test_energy_is_a_mean_over_processes_or_a_reason(lines):
    planned, make = lines
    found = row(planned, make(), "energy")
    assert (found["value"], found["unit"], found["samples"], found["processes"]) == (pytest.approx(3.0), "J", 2, 2)
    absent = row(planned, make(unsupported={"energy": "no counter"}), "energy")
    assert (absent["status"], absent["reason"], absent["value"]) == ("unsupported", "no counter", None)
    broken = row(planned, make(failed={"energy": {"status": "error", "reason": "it broke"}}), "energy")
    assert (broken["status"], broken["reason"], broken["value"]) == ("error", "it broke", None)


def test_what_one_process_saw_marks_the_row(lines):
    planned, make = lines
    seen = [{"foreign_cpu": 0.5}, {"throttle_events": 2}]
    assert row(planned, make(watch=seen), "latency")["marks"] == "noisy,contended,throttled"
    assert row(planned, make(), "latency")["marks"] == "noisy"
