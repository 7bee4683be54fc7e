"""What --on and --profile say, on a machine without any cluster."""

import json

import pytest

from bench.cli.where import On, where
from bench.errors import UsageError
from bench.launch.cluster import Submitit
from bench.launch.local import Local
from bench.launch.slurm import Slurm
from bench.machine import env
from bench.plan import sweep
from bench.schedule.resume import Place
from bench.store.folder import Store

PROFILE = 'schema = 1\n[launch.slurm.hardware.a]\n[launch.slurm.hardware.b]\nconstraint = "b"\n'


def test_here_is_one_place_whose_env_is_known(tiny, tmp_path):
    machines = where(On.LOCAL, None, sweep.load(tiny))
    assert machines.name == env.env_id("cpu")
    assert machines.places == (Place(env_id=env.env_id("cpu")),)
    with machines.engine(tmp_path, [], False, print) as engine:
        assert isinstance(engine, Local)


def test_a_second_machine_in_a_folder_takes_nothing_of_what_the_first_is(tiny, tmp_path):
    machines = where(On.LOCAL, None, sweep.load(tiny))
    described = {"env_id": "cpu-other", "identity": {"device": "cpu"}, "code_rev": "c"}
    with Store(tmp_path / "run") as store:
        store.write("env.json", json.dumps(described))
        machines.describe(store)
        machines.describe(store)
    kept = tmp_path / "run" / "envs"
    assert [path.name for path in kept.iterdir()] == ["cpu-other.json"]
    assert json.loads((kept / "cpu-other.json").read_text()) == described
    assert json.loads((tmp_path / "run" / "env.json").read_text())["env_id"] == machines.name


def test_a_damaged_description_is_replaced(tiny, tmp_path):
    machines = where(On.LOCAL, None, sweep.load(tiny))
    with Store(tmp_path / "run") as store:
        store.write("env.json", "{")
        machines.describe(store)
    assert json.loads((tmp_path / "run" / "env.json").read_text())["env_id"] == machines.name


def test_a_cluster_is_as_many_places_as_its_profile_names_kinds_of_hardware(tiny, tmp_path):
    path = tmp_path / "cluster.toml"
    path.write_text(PROFILE)
    machines = where(On.SLURM, path, sweep.load(tiny))
    assert machines.places == (Place(hardware="a"), Place(hardware="b"))
    assert where(On.SLURM, None, sweep.load(tiny)).places == (Place(),)


def test_a_profile_replaces_the_sweeps_table(edited, tmp_path):
    loaded = sweep.load(edited("[protocol]", "[launch.slurm.hardware.mine]\n[protocol]"))
    assert where(On.SLURM, None, loaded).places == (Place(hardware="mine"),)
    path = tmp_path / "cluster.toml"
    path.write_text(PROFILE)
    assert where(On.SLURM, path, loaded).places == (Place(hardware="a"), Place(hardware="b"))


def test_a_profile_for_a_local_run_is_a_mistake(tiny, tmp_path):
    with pytest.raises(UsageError, match=r"--profile .*: add --on slurm"):
        where(On.LOCAL, tmp_path / "cluster.toml", sweep.load(tiny))


def test_nothing_is_written_and_no_cluster_is_asked_before_the_first_order(tiny, tmp_path):
    with where(On.SLURM, None, sweep.load(tiny)).engine(tmp_path, [], False, print) as engine:
        assert isinstance(engine, Slurm)
        assert engine.width("static") == 1000
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.toml"]


def test_where_there_is_no_slurm_one_line_says_so(monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UsageError, match="needs SLURM's sbatch: start it on a login node"):
        Submitit().check()
