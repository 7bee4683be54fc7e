"""Filters over cases and stored plans, and shards."""

import pytest

from bench.errors import UsageError
from bench.plan import expansion, selection, sweep
from bench.schedule.run import plan_lines


@pytest.fixture
def quick():
    return expansion.expand(sweep.load(next(path for path in sweep.own_sweeps() if path.stem == "quick")))


def ids(planned):
    return [p.case.id for p in planned]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_shards_have_every_case_once_and_whole_groups(quick, count):
    shards = [selection.shard(quick, f"{i}/{count}") for i in range(1, count + 1)]
    assert sorted(case for shard in shards for case in ids(shard)) == sorted(ids(quick))
    groups = [{p.case.group_id for p in shard} for shard in shards]
    assert sum(map(len, groups)) == len(set().union(*groups))


def test_shards_are_of_like_size_and_always_the_same(quick):
    sizes = [len(selection.shard(quick, f"{i}/3")) for i in (1, 2, 3)]
    assert max(sizes) - min(sizes) <= max(
        sum(p.case.group_id == group for p in quick) for group in {p.case.group_id for p in quick}
    )
    assert ids(selection.shard(quick, "2/3")) == ids(selection.shard(list(quick), "2/3"))


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "a/b", "1/2/3", "-1/2", "1/0", "1/99999999999"])
def test_what_is_no_shard_is_one_line(quick, text):
    with pytest.raises(UsageError, match="is not of the form i/k"):
        selection.shard(quick, text)


def test_a_stored_plan_is_filtered_as_a_sweep_is(quick):
    lines = plan_lines(quick)
    for filters in (["algebra=ph", "n=4"], ["subject=resnet8", "seed=1"], ["channels=128", "phase=train_step"]):
        assert selection.of_lines(lines, filters) == plan_lines(selection.select(quick, filters))
    with pytest.raises(UsageError, match="no case has a factor"):
        selection.of_lines(lines, ["colour=red"])
