"""What happened to the machine, on machines made up: a fake /proc, a fake /sys and a fake NVML."""

import os
from collections import namedtuple
from types import SimpleNamespace

import psutil
import pytest

from bench.machine import nvml, watch
from bench.machine.watch import Look, between, marks, reasons

QUIET = {
    "at": 100.0,
    "cores": 4,
    "busy": 1000.0,
    "own": 10.0,
    "stolen": 5.0,
    "load": 1.0,
    "clock": 3e9,
    "throttles": 7,
}


def seen(**after):
    """Ten seconds on four cores, in which nothing but this process ran, and it used 20 CPU seconds."""
    return between(Look(**QUIET), Look(**{**QUIET, "at": 110.0, "busy": 1020.0, "own": 30.0, **after}))


def test_a_machine_that_did_nothing_else_earns_no_mark():
    quiet = seen()
    assert (quiet["seconds"], quiet["foreign_cpu"], quiet["steal"], quiet["throttle_events"]) == (10.0, 0.0, 0.0, 0)
    assert marks(quiet) == []


@pytest.mark.parametrize(
    ("change", "mark", "words"),
    [
        ({"busy": 1022.0}, "contended", "other processes used 5.0% of the time of 4 cores"),
        ({"stolen": 5.8}, "contended", "hypervisor kept 2.0%"),
        ({"throttles": 8}, "throttled", "slowed for heat 1 times"),
        ({"clock": 2.3e9}, "throttled", "fell from 3.00 to 2.30 GHz"),
    ],
)
def test_each_threshold_earns_its_mark_and_says_why(change, mark, words):
    assert marks(seen(**change)) == [mark]
    (reason,) = reasons(seen(**change))
    assert words in reason


@pytest.mark.parametrize("change", [{"busy": 1021.9}, {"stolen": 5.79}, {"clock": 2.41e9}])
def test_below_its_threshold_nothing_is_marked(change):
    assert marks(seen(**change)) == []


@pytest.mark.parametrize(
    ("cores", "seconds", "expected"),
    [(1, 0.49, []), (1, 0.5, ["contended"]), (2, 0.99, []), (2, 1.0, ["contended"]), (4, 2.0, ["contended"]),
     (64, 1.9, []), (64, 2.0, ["contended"]), (128, 10.0, ["contended"])],
)  # fmt: skip
def test_a_process_that_keeps_one_core_busy_is_contention_however_many_cores_there_are(cores, seconds, expected):
    """CPU seconds of others in ten seconds: a twentieth of each core, and never more than a fifth of one."""
    quiet = {**QUIET, "cores": cores}
    found = between(Look(**quiet), Look(**{**quiet, "at": 110.0, "busy": 1020.0 + seconds, "own": 30.0}))
    assert marks(found) == expected


def test_what_the_system_does_not_tell_is_absent_and_earns_nothing():
    bare = {"cores": 4, "busy": 0.0, "own": 0.0}
    found = between(Look(at=0.0, **bare), Look(at=10.0, **bare))
    assert set(found) == {"seconds", "cores", "foreign_cpu"}
    assert marks(found) == []


def test_two_looks_at_one_moment_give_no_share():
    assert between(Look(**QUIET), Look(**QUIET))["seconds"] == 0.0
    assert "foreign_cpu" not in between(Look(**QUIET), Look(**QUIET))


@pytest.fixture
def proc(tmp_path, monkeypatch):
    """A /proc that the test writes: CPU seconds of each core, in user, idle and steal."""
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    hertz = os.sysconf("SC_CLK_TCK")

    def line(name, user, idle, steal):
        return " ".join(map(str, [name, user * hertz, 0, 0, idle * hertz, 0, 0, 0, steal * hertz, 0, 0])) + "\n"

    def write(*cores):
        whole = line("cpu", *map(sum, zip(*cores, strict=True)))
        (tmp_path / "stat").write_text(whole + "".join(line(f"cpu{i}", *core) for i, core in enumerate(cores)))

    return write


@pytest.fixture
def own(monkeypatch):
    """What this process may use and has used: its cores and CPU seconds."""
    times = namedtuple("times", "user system")

    def use(cores, user):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(cores))
        monkeypatch.setattr(os, "times", lambda: times(user, 0.0))

    return use


@pytest.mark.skipif(not psutil.LINUX, reason="/proc is Linux's")
def test_foreign_work_and_steal_are_read_from_proc_stat(proc, own):
    own({0, 1}, 3.0)
    proc((60, 50, 4), (40, 50, 6))
    before = watch.look("cpu", clock=lambda: 0.0)
    proc((70, 50, 5), (45, 54, 6))
    own({0, 1}, 13.0)
    found = between(before, watch.look("cpu", clock=lambda: 10.0))
    assert (found["cores"], found["foreign_cpu"], found["steal"]) == (2, (15 - 10) / 20, 1 / 20)
    assert marks(found) == ["contended"]


@pytest.mark.skipif(not psutil.LINUX, reason="/proc is Linux's")
def test_work_on_cores_that_this_process_may_not_use_is_no_concern_of_its(proc, own):
    """A container with two of four cores; the neighbours keep the others busy."""
    own({1, 3}, 0.0)
    proc(*[(0, 0, 0)] * 4)
    before = watch.look("cpu", clock=lambda: 0.0)
    proc((10, 0, 0), (10, 0, 0), (9, 0, 1), (0, 10, 0))
    own({1, 3}, 10.0)
    found = between(before, watch.look("cpu", clock=lambda: 10.0))
    assert (found["cores"], found["foreign_cpu"], found["steal"]) == (2, 0.0, 0.0)
    assert marks(found) == []
    own({1, 7}, 10.0)
    assert watch.look("cpu").cores == 4, "where a line is whose is not told, all count"


def test_throttle_events_of_all_cores_are_summed_and_absent_where_uncounted(tmp_path):
    assert watch._throttle_events(tmp_path) is None
    for core, (own, package) in enumerate([(1, 2), (4, 2)]):
        folder = tmp_path / f"cpu{core}" / "thermal_throttle"
        folder.mkdir(parents=True)
        (folder / "core_throttle_count").write_text(f"{own}\n")
        (folder / "package_throttle_count").write_text(f"{package}\n")
    assert watch._throttle_events(tmp_path) == 9


def test_a_real_look_holds_this_process_against_the_machine():
    before = watch.look("cpu")
    sum(range(10**6))
    found = between(before, watch.look("cpu"))
    assert 0 <= found["foreign_cpu"] <= 1.5
    assert 1 <= found["cores"] <= psutil.cpu_count()


@pytest.mark.skipif(not psutil.LINUX, reason="/proc is Linux's")
def test_a_process_is_as_old_as_its_ticks_since_the_boot_say(tmp_path, monkeypatch):
    ticks = os.sysconf("SC_CLK_TCK")
    stat = tmp_path / "stat"
    stat.write_text(f"7 (a) name 1) S {' '.join(['0'] * 18)} {1234 * ticks + ticks // 4} 5 6")
    monkeypatch.setattr(watch, "_STAT", stat)
    monkeypatch.setattr(watch.time, "clock_gettime", {watch.time.CLOCK_BOOTTIME: 1300.0}.get)
    assert watch.age() == pytest.approx(65.75)


def test_elsewhere_the_age_is_what_psutil_says(tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "_STAT", tmp_path / "none")
    assert watch.age() == pytest.approx(watch.time.time() - psutil.Process().create_time(), abs=1.0)


# ---------------------------------------------------------------------------------------------------- on a GPU


@pytest.fixture
def device(monkeypatch, fake_nvml):
    """A GPU whose instruments are set by name."""

    def make(**answers):
        gpu = nvml.Gpu(fake_nvml.FakeNvml(**answers), "handle")
        monkeypatch.setattr(nvml, "current_gpu", lambda: gpu)

    return make


def gpu_seen(device, fake_nvml, before, after):
    usual = {
        "CurrentClocksEventReasons": 0, "ClockInfo": 1500, "Temperature": 40,
        "ComputeRunningProcesses": fake_nvml.processes(os.getpid()), "ViolationStatus": SimpleNamespace(violationTime=0),
    }  # fmt: skip
    device(**usual | before)
    first = watch.look("cuda", clock=lambda: 0.0)
    device(**usual | before | after)
    return between(first, watch.look("cuda", clock=lambda: 10.0))["gpu"]


def test_clocks_and_temperature_of_the_gpu_are_kept_from_both_looks(device, fake_nvml):
    found = gpu_seen(device, fake_nvml, {}, {"ClockInfo": 1400, "Temperature": 60})
    assert (found["clock"], found["temperature"]) == ([1.5e9, 1.4e9], [40, 60])
    assert marks({"gpu": found}) == []


@pytest.mark.parametrize(
    ("pids", "computes", "others"),
    [
        ([], False, 0),
        ([1, 2, 3], True, 2),  # ids of another name space: one is ours
        ([1], False, 1),  # none is: this process has nothing on the GPU, as the parent of a check
        ([os.getpid(), 2], True, 1),
        ([os.getpid(), 2], False, 1),
    ],
)
def test_another_process_on_the_gpu_is_contention(device, fake_nvml, monkeypatch, pids, computes, others):
    monkeypatch.setattr(watch, "_computes", lambda: computes)
    found = gpu_seen(device, fake_nvml, {"ComputeRunningProcesses": fake_nvml.processes(*pids)}, {})
    assert found["others"] == others
    assert marks({"gpu": found}) == ["contended"] * bool(others)


def test_a_process_without_memory_on_a_gpu_does_not_compute_there():
    assert watch._computes() is False


@pytest.mark.parametrize(("nanoseconds", "expected"), [(50_000_000, []), (200_000_000, ["throttled"])])
def test_time_held_back_is_counted_between_the_looks(device, fake_nvml, nanoseconds, expected):
    held = {"ViolationStatus": SimpleNamespace(violationTime=nanoseconds)}
    found = gpu_seen(device, fake_nvml, {}, held)
    assert found["power_violation"] == nanoseconds * 1e-9 / 10
    assert marks({"gpu": found}) == expected


def test_where_the_time_is_not_counted_the_reasons_at_the_looks_decide(device, fake_nvml):
    uncounted = {"ViolationStatus": fake_nvml.NVMLError("Not Supported")}
    found = gpu_seen(device, fake_nvml, uncounted, {"CurrentClocksEventReasons": 0x1 | 0x4})
    assert found["reasons"] == ["gpu_idle", "sw_power_cap"]
    assert "Not Supported" in found["unreported"]["power_violation"]
    assert marks({"gpu": found}) == ["throttled"]
    idle = gpu_seen(device, fake_nvml, uncounted, {"CurrentClocksEventReasons": 0x1})
    assert marks({"gpu": idle}) == []


def test_an_old_driver_is_asked_by_the_old_name(device, fake_nvml):
    old = {
        "CurrentClocksEventReasons": fake_nvml.NVMLError("Function Not Found"),
        "CurrentClocksThrottleReasons": 0x40,
    }
    assert gpu_seen(device, fake_nvml, old, {})["reasons"] == ["hw_thermal_slowdown"]


def test_without_nvidias_package_the_reason_stands_in_its_place(monkeypatch):
    def absent():
        raise nvml.AbsentError("nvidia-ml-py is not installed")

    monkeypatch.setattr(nvml, "current_gpu", absent)
    look = watch.look("cuda")
    assert between(look, look)["gpu"] == {"absent": "nvidia-ml-py is not installed"}
