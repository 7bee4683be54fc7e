"""The sampler, driven by a clock that the test moves: no real time passes."""

import random
from dataclasses import dataclass, field

import pytest

from phnn import timing


@dataclass
class FakeClock:
    """Seconds that only ``spend`` moves, and a log of who spent them."""

    now: float = 0.0
    log: list[str] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def costs(self, name: str, seconds: float):
        def call() -> None:
            self.now += seconds
            self.log.append(name)

        return call


def rounds(count: int):
    return lambda seen: "enough" if len(seen) >= count else None


def test_seconds_per_call_are_what_each_callable_takes():
    clock = FakeClock()
    variants = {"a": clock.costs("a", 2e-3), "b": clock.costs("b", 5e-4)}
    samples = timing.sample(variants, rounds(4), clock=clock)
    assert samples.seconds("a") == pytest.approx([2e-3] * 4)
    assert samples.seconds("b") == pytest.approx([5e-4] * 4)
    assert samples.stopped == "enough"


def test_a_block_lasts_at_least_min_block():
    clock = FakeClock()
    samples = timing.sample({"a": clock.costs("a", 1e-5)}, rounds(2), clock=clock, min_block=1e-3)
    assert samples.rounds[0].calls["a"] * 1e-5 >= 1e-3
    assert samples.rounds[0].calls["a"] * 1e-5 < 4e-3


def test_drift_cancels_in_the_ratio_of_a_round():
    """The machine slows down by half a percent a visit; the ratio of two callables hardly notices."""
    clock = FakeClock()
    slowdown = 1.0

    def variant(seconds: float):
        def call() -> None:
            nonlocal slowdown
            slowdown *= 1.005
            clock.now += seconds * slowdown

        return call

    samples = timing.sample({"a": variant(2e-3), "b": variant(1e-3)}, rounds(60), clock=clock, rng=random.Random(1))
    a, b = samples.seconds("a"), samples.seconds("b")
    ratios = sorted(x / y for x, y in zip(a, b, strict=True))
    assert a[-1] / a[0] > 1.5, "the drift must be real for the test to mean anything"
    assert ratios[30] == pytest.approx(2.0, rel=0.02)


def test_the_order_of_a_round_is_drawn_anew_and_repeats_with_the_seed():
    def orders(seed: int) -> list[str]:
        clock = FakeClock()
        variants = {name: clock.costs(name, 1.0) for name in "abc"}
        timing.sample(variants, rounds(12), clock=clock, warmup=0, rng=random.Random(seed))
        return clock.log

    assert orders(1) == orders(1)
    assert orders(1) != orders(2)
    visits = orders(1)[3:]  # the first three count the calls of a block
    firsts = {visits[i] for i in range(0, len(visits), 6)}  # two calls a visit, three visits a round
    assert firsts == {"a", "b", "c"}


def test_the_first_call_of_each_visit_is_discarded():
    clock = FakeClock()
    cold = {"next": True}

    def call() -> None:
        clock.now += 1.0 if cold["next"] else 1e-2
        cold["next"] = False

    def chill() -> None:
        clock.now += 1e-2
        cold["next"] = True

    samples = timing.sample({"cold_first": call, "chills": chill}, rounds(8), clock=clock)
    assert max(samples.seconds("cold_first")) == pytest.approx(1e-2)


def test_the_device_is_waited_for_inside_every_block():
    clock = FakeClock()
    queued = {"seconds": 0.0}

    def launch() -> None:
        clock.now += 1e-5
        queued["seconds"] += 1e-3

    def sync() -> None:
        clock.now += queued["seconds"]
        queued["seconds"] = 0.0

    samples = timing.sample({"kernel": launch}, rounds(3), clock=clock, sync=sync)
    assert samples.seconds("kernel") == pytest.approx([1.01e-3] * 3)


def settling(clock: FakeClock, seconds):
    """A callable whose calls take these seconds, and then the last of them again and again."""
    left = list(seconds)

    def call() -> None:
        clock.now += left.pop(0) if len(left) > 1 else left[0]
        clock.log.append("call")

    return call


def test_warming_up_goes_on_while_a_callable_gets_faster():
    clock = FakeClock()
    ramp = [1.0 * 0.9**i for i in range(30)]
    samples = timing.sample({"ramps": settling(clock, ramp)}, rounds(1), clock=clock, settle=100.0)
    assert samples.settled == {"ramps": True}
    assert samples.seconds("ramps") == pytest.approx([ramp[-1]]), "no round saw the ramp"
    assert samples.spent.warmup == pytest.approx(sum(ramp) + 5 * ramp[-1], rel=0.1)


def test_warming_up_ends_when_its_time_is_spent_and_says_so():
    clock = FakeClock()
    samples = timing.sample(
        {"ramps": settling(clock, [1.0 * 0.9**i for i in range(90)])}, rounds(1), clock=clock, settle=3.0
    )
    assert samples.settled == {"ramps": False}
    assert 3.0 <= samples.spent.warmup - (1.0 + 0.9 + 0.81) <= 4.0


def test_what_gets_slower_has_settled():
    """Waiting would not bring it back: heat and neighbours are the rounds' business."""
    clock = FakeClock()
    samples = timing.sample(
        {"a": settling(clock, [1.0 + 0.1 * i for i in range(60)])}, rounds(1), clock=clock, settle=99.0
    )
    assert samples.settled == {"a": True}
    assert len(clock.log) == 3 + 2 * timing.BLOCKS + 2


def test_noise_is_not_taken_for_getting_faster():
    clock, rng = FakeClock(), random.Random(3)
    noisy = [1e-2 * (1 + rng.expovariate(3.0)) for _ in range(400)]
    samples = timing.sample({"a": settling(clock, noisy)}, rounds(1), clock=clock, settle=1.0)
    assert samples.settled == {"a": True}


def test_without_time_to_settle_nothing_is_claimed():
    clock = FakeClock()
    assert timing.sample({"a": clock.costs("a", 1.0)}, rounds(1), clock=clock).settled == {"a": False}


def test_a_chilled_callable_is_timed_one_call_at_a_time_each_right_after_a_chill():
    clock = FakeClock()
    variants = {"a": clock.costs("a", 1e-5), "b": clock.costs("b", 2e-5)}
    samples = timing.sample(variants, rounds(5), chill=clock.costs("chill", 1.0), warmup=0, clock=clock)
    visits = clock.log[2:]
    assert visits[::2] == ["chill"] * 10
    assert sorted(visits[1::2]) == ["a"] * 5 + ["b"] * 5
    assert samples.seconds("a") == pytest.approx([1e-5] * 5)
    assert samples.rounds[0].calls == {"a": 1, "b": 1}


def test_a_watch_of_the_device_replaces_the_hosts_clock():
    clock = FakeClock()
    device = {"seconds": 0.0}

    def launch() -> None:
        clock.now += 1e-3
        device["seconds"] += 1e-4

    def watch(call, calls: int) -> float:
        before = device["seconds"]
        for _ in range(calls):
            call()
        return device["seconds"] - before

    samples = timing.sample({"kernel": launch}, rounds(3), watch=watch, clock=clock)
    assert samples.seconds("kernel") == pytest.approx([1e-4] * 3)
    assert samples.rounds[0].calls["kernel"] == 16, "a block lasts min_block by the watch that times it"


def test_every_second_of_a_run_is_accounted_for():
    clock = FakeClock()
    stop_looks = rounds(4)

    def stop(seen):
        clock.now += 0.25  # the sampler's own
        return stop_looks(seen)

    samples = timing.sample({"a": clock.costs("a", 1.0), "b": clock.costs("b", 2.0)}, stop, clock=clock)
    spent = samples.spent
    assert (spent.warmup, spent.discarded, spent.measured) == pytest.approx((4 * 3.0, 4 * 3.0, 4 * 3.0))
    assert clock.now - (spent.warmup + spent.discarded + spent.measured) == pytest.approx(5 * 0.25)


def test_nothing_to_time_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        timing.sample({}, rounds(1))
