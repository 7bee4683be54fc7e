"""Energy by counters made up: joules of a clock that the test moves, RAPL in a folder, NVML in a fake module."""

import os
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from bench.machine import nvml
from bench.machine.nvml import AbsentError
from bench.measure import energy
from bench.measure.energy import Rapl, per_call
from bench.plan.case import Case
from bench.plan.sweep import Protocol
from bench.task import protocol, timing


@dataclass
class Machine:
    """A clock that calls move, and a counter of ``watts`` that steps every ``tick`` seconds."""

    watts: float = 50.0
    tick: float = 0.1
    now: float = 0.0
    calls: int = 0

    def clock(self):
        return self.now

    def call(self, seconds=2e-3):
        self.now += seconds
        self.calls += 1

    def joules(self):
        return self.watts * int(self.now / self.tick + 1e-9) * self.tick


@pytest.mark.parametrize("tick", [0.1, 0.02, 1e-3])
def test_energy_is_power_times_the_time_of_a_call(tick):
    machine = Machine(tick=tick, now=0.06)  # begun between two steps: half a step more would show
    found = per_call(machine.call, machine.joules, clock=machine.clock)
    assert found.joules == pytest.approx(50.0 * 2e-3, rel=0.01)
    assert found.seconds >= energy.WINDOW
    assert found.ticks >= energy.TICKS


def test_the_window_grows_to_ten_steps_of_a_slow_counter():
    machine = Machine(tick=0.5)
    found = per_call(machine.call, machine.joules, clock=machine.clock)
    assert found.seconds == pytest.approx(5.0, rel=0.02)
    assert found.joules == pytest.approx(0.1, rel=0.02)


def test_a_counter_that_stands_still_is_absent_never_zero():
    machine = Machine()
    with pytest.raises(AbsentError, match="did not move"):
        per_call(machine.call, lambda: 7.0, clock=machine.clock)


# ----------------------------------------------------------------------------------------------------- RAPL


def zone(root, folder, name, microjoules, limit=1000):
    where = root / folder
    where.mkdir()
    for file, text in (("name", name), ("energy_uj", microjoules), ("max_energy_range_uj", limit)):
        (where / file).write_text(f"{text}\n")
    return where / "energy_uj"


def test_packages_and_their_memory_are_summed_and_no_part_twice(tmp_path):
    counted = [
        zone(tmp_path, "intel-rapl:0", "package-0", 100),
        zone(tmp_path, "intel-rapl:1", "package-1", 200),
        zone(tmp_path, "intel-rapl:0:1", "dram", 300),
    ]
    apart = [zone(tmp_path, "intel-rapl:0:0", "core", 1), zone(tmp_path, "intel-rapl:2", "psys", 1)]
    rapl = Rapl.found(tmp_path)
    assert rapl.joules() == 0
    for file in (*counted, *apart):
        file.write_text(str(int(file.read_text()) + 50))
    assert rapl.joules() == pytest.approx(150e-6)


def test_a_counter_that_wraps_around_goes_on_counting(tmp_path):
    file = zone(tmp_path, "intel-rapl:0", "package-0", 900, limit=1000)
    rapl = Rapl.found(tmp_path)
    seen = []
    for reading in (990, 20, 15):  # the last one has gone nearly round
        file.write_text(str(reading))
        seen.append(round(rapl.joules() * 1e6))
    assert seen == [90, 121, 1117]


def test_a_machine_without_rapl_says_so(tmp_path):
    with pytest.raises(AbsentError, match="no RAPL counter"):
        Rapl.found(tmp_path / "none")


def test_a_counter_that_only_root_may_read_says_so(tmp_path, monkeypatch):
    file = zone(tmp_path, "intel-rapl:0", "package-0", 1)
    if os.geteuid() == 0:  # root reads whatever the mode says
        read = type(file).read_text

        def refuse(path, *args, **kwargs):
            if path.name == "energy_uj":
                raise PermissionError(13, "Permission denied")
            return read(path, *args, **kwargs)

        monkeypatch.setattr(type(file), "read_text", refuse)
    file.chmod(0)
    with pytest.raises(AbsentError, match="root"):
        Rapl.found(tmp_path)


# ----------------------------------------------------------------------------------------------------- NVML


def test_the_boards_counter_is_in_joules(fake_nvml):
    gpu = nvml.Gpu(fake_nvml.FakeNvml(TotalEnergyConsumption=12_345), "handle")
    assert energy.nvml_counter(gpu)() == pytest.approx(12.345)


def test_a_board_without_a_counter_is_absent_with_the_drivers_words(fake_nvml):
    with pytest.raises(AbsentError, match="TotalEnergyConsumption here: Not Supported"):
        energy.nvml_counter(nvml.Gpu(fake_nvml.FakeNvml(), "handle"))


def test_the_gpu_is_found_by_torchs_uuid(fake_nvml, monkeypatch):
    library = fake_nvml.FakeNvml(TotalEnergyConsumption=1000)
    monkeypatch.setattr(nvml.importlib, "import_module", lambda name: library)
    nvml.gpu.cache_clear()
    assert nvml.gpu("12-34").handle == "handle of GPU-12-34"
    nvml.gpu.cache_clear()


def test_without_nvidias_package_the_reason_names_it(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(nvml.importlib, "import_module", missing)
    nvml.gpu.cache_clear()
    with pytest.raises(AbsentError, match="pip install nvidia-ml-py"):
        nvml.gpu("12-34")


# --------------------------------------------------------------------------------------------------- a worker


def measured(monkeypatch, counter_of, call):
    case = Case("linear", "layer", "real", 1, (("batch", 1),))
    result = protocol.Result(case_id=case.id)
    monkeypatch.setattr(timing.energy, "counter_of", counter_of)
    request = SimpleNamespace(device="cpu", repetition=0)
    timing._energy(request, {case.id: call}, {case.id: result})
    return result


def test_a_worker_without_a_counter_reports_the_reason_and_no_value(monkeypatch):
    def absent(device):
        raise AbsentError("this machine has none")

    found = measured(monkeypatch, absent, lambda: None)
    assert found.unsupported == {"energy": "this machine has none"}
    assert "energy" not in found.values


def test_a_worker_keeps_joules_and_their_window(monkeypatch):
    machine = Machine()
    real = energy.per_call
    monkeypatch.setattr(energy, "per_call", lambda *a, **k: real(*a, **{**k, "clock": machine.clock}))
    found = measured(monkeypatch, lambda device: machine.joules, machine.call)
    assert found.values["energy"] == pytest.approx(0.1, rel=0.02)
    assert found.details["energy_window"]["ticks"] >= energy.TICKS
    assert "foreign_cpu" in found.details["watch_energy"]


def test_energy_is_of_the_call_that_was_timed(planned, monkeypatch):
    """Under ``graph`` that is the replay, not the launches that it takes the place of."""
    replays, asked = [], []

    def prepared(call, timer, device):
        replays.append(lambda: call())
        return replays[-1]

    def per_call(call, counter, **how):
        asked.append(call)
        return energy.Energy(joules=1.0, calls=1, seconds=1.0, ticks=10)

    monkeypatch.setattr(timing.latency, "prepared", prepared)
    monkeypatch.setattr(timing.energy, "counter_of", lambda device: None)
    monkeypatch.setattr(timing.energy, "per_call", per_call)
    results = timing.measured(
        protocol.Request(
            kind="timing", cases=[p.case.factors for p in planned], metrics=["latency", "energy"], repetition=1,
            device="cpu", threads=1, protocol=Protocol(budget=0.01, precision=0.9, placements=1),
        )
    )  # fmt: skip
    assert {result.values["energy"] for result in results} == {1.0}
    assert len(asked) == len(planned)
    assert all(call in replays for call in asked)


def energies(monkeypatch, **calls):
    """The results of a task that has timed all of ``calls``; a clock and a counter that calls move."""
    machine = Machine()
    real = energy.per_call
    monkeypatch.setattr(energy, "per_call", lambda *a, **k: real(*a, **{**k, "clock": machine.clock}))
    monkeypatch.setattr(timing.energy, "counter_of", lambda device: machine.joules)
    results = {name: protocol.Result(case_id=name, seconds=[1.0]) for name in calls}
    timed = {name: call or machine.call for name, call in calls.items()}
    timing._energy(SimpleNamespace(device="cpu", repetition=0), timed, results)
    return results


def failing(error):
    def call():
        raise error

    return call


@pytest.mark.parametrize(
    ("error", "said"),
    [(RuntimeError("out of luck"), "RuntimeError: out of luck"), (OSError("energy_uj"), "OSError: energy_uj")],
)
def test_a_case_whose_energy_fails_costs_no_other_and_no_time(monkeypatch, error, said):
    found = energies(monkeypatch, a=None, b=failing(error), c=None)
    assert [name for name, result in found.items() if "energy" in result.values] == ["a", "c"]
    assert (found["b"].failed["energy"].reason, found["b"].status, found["b"].seconds) == (said, "ok", [1.0])


def test_a_counter_that_stands_still_for_one_case_leaves_the_others_theirs(monkeypatch):
    found = energies(monkeypatch, a=None, b=failing(AbsentError("it did not move")), c=None)
    assert [name for name, result in found.items() if "energy" in result.values] == ["a", "c"]
    assert [result.unsupported for result in found.values()] == [{}, {"energy": "it did not move"}, {}]


def test_what_ends_all_work_on_a_device_leaves_what_was_timed(monkeypatch):
    found = energies(monkeypatch, **dict.fromkeys("abcd", failing(RuntimeError("CUDA error: an illegal address"))))
    assert [result.seconds for result in found.values()] == [[1.0]] * 4
    assert {result.failed["energy"].reason for result in found.values()} == {
        "RuntimeError: CUDA error: an illegal address"
    }
