import subprocess
import sys

import pytest

from bench.errors import UsageError
from bench.plan import expansion, selection
from bench.plan import sweep as sweeps


def expand(path):
    return expansion.expand(sweeps.load(path))


def variants(planned):
    return [(p.case.algebra, p.case.n) for p in planned]


def test_axes_multiply_and_what_a_subject_does_not_take_collapses(tiny):
    assert variants(expand(tiny)) == [("real", 1), ("quaternion", 4), ("ph", 2), ("ph", 4)]


def test_the_real_layer_has_no_path(edited):
    planned = expand(edited("batch = 2", 'batch = 2\npath = ["kron", "dense"]'))
    assert [p.case.path for p in planned if p.case.algebra == "real"] == ["none"]
    assert len(planned) == 1 + 3 * 2


def test_a_width_that_n_does_not_divide_is_skipped_with_the_reason(edited):
    planned = expand(edited("n = [2, 4]", "n = [2, 3]"))
    skipped = {p.case.n: p.skipped for p in planned}
    assert skipped[3] == "n=3 does not divide channels=8 (nearest: 6 or 9)"
    assert skipped[2] is None


def test_ids_depend_on_the_factors_alone(tiny, edited):
    before = [p.case.id for p in expand(tiny)]
    assert [p.case.id for p in expand(edited('title = "a test"', 'title = "another"'))] == before
    after = [p.case.id for p in expand(edited("channels = 8", "channels = 16"))]
    assert not set(before) & set(after)


def test_metrics_of_a_case_in_two_entries_add_up(tiny):
    again = (
        '[[cases]]\nsubject = "linear"\nmetrics = ["macs"]\n[cases.axes]\nalgebra = "real"\nchannels = 8\nbatch = 2\n'
    )
    tiny.write_text(tiny.read_text() + again)
    planned = expand(tiny)
    assert len(planned) == 4
    assert planned[0].metrics == {"params", "latency", "latency_ratio", "numeric_error", "macs"}


def test_a_case_survives_the_way_to_json_and_back(planned):
    from bench.plan.case import Case

    for p in planned:
        assert Case.from_factors(p.case.factors) == p.case


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("channels = 8", "chanels = 8", r"cases\[0\]\.axes\.chanels.*did you mean channels"),
        ('"quaternion"', '"quaternoin"', r"cases\[0\]\.axes\.algebra.*did you mean quaternion"),
        ('"linear"', '"linaer"', r"cases\[0\]\.subject.*did you mean linear"),
        ('"params"', '"parms"', r"cases\[0\]\.metrics.*did you mean params"),
        ("processes = 2", "proceses = 2", r"protocol\.proceses: is no key of a sweep: did you mean processes"),
        ("processes = 2", "processes = 1", r"protocol\.processes.*greater than or equal to 2"),
        ("n = [2, 4]", "n = [2.5]", r"axes\.n: 2\.5 is no whole number from 1 up"),
        (
            "batch = 2",
            'phase = "inference"',
            r"axes\.phase: 'inference' is none of infer, forward_backward, train_step",
        ),
        ("batch = 2", 'dtype = "fp32"', r"axes\.dtype: 'fp32' is none of float64"),
        ("batch = 2", "batch = [true]", r"axes\.batch: True is no whole number"),
        ("n = [2, 4]", "", "algebra 'ph' needs an axis n"),
        ("channels = 8", "channels = []", "expands to no case"),
        ("schema = 1", "schema = 2", "schema: Input should be 1"),
        ("schema = 1", "schema = ", "not valid TOML"),
        ('["params", "latency", "latency_ratio"]', '["accuracy"]', "needs an axis data; data is one of digits"),
        ("channels = 8", "channels = 100000000000000000000", r"axes\.channels: 1000\d+ is no whole number"),
        ("[cases.axes]", 'controls = ["slim"]\n[cases.axes]', r"cases\[0\]\.controls: 'linear' has no width_scale"),
        ("batch = 2", 'data = "digits"', "has an axis data but no metric of training"),
        ('name = "tiny"', 'name = "../tiny"', "name: String should match"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key_and_the_remedy(edited, old, new, expected):
    with pytest.raises(UsageError, match=expected) as error:
        expand(edited(old, new))
    assert "\n" not in str(error.value)


def test_an_absent_file_is_said_to_be_absent(tmp_path):
    with pytest.raises(UsageError, match="no sweep file"):
        sweeps.load(tmp_path / "none.toml")


def test_a_filter_keeps_the_baselines_of_what_it_selects(planned):
    kept = selection.select(planned, ["algebra=ph", "n=4"])
    assert variants(kept) == [("real", 1), ("ph", 4)]
    assert variants(selection.select(planned, ["channels=8", "n=2,4"])) == variants(planned)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("algebr=ph", "no case has a factor 'algebr'.*algebra"),
        ("algebra=octonion", "no case matches; algebra is one of real, quaternion, ph"),
        ("algebra=octernion", "did you mean"),
        ("algebra", "not of the form key=value"),
    ],
)
def test_a_filter_that_selects_nothing_says_why(planned, text, expected):
    with pytest.raises(UsageError, match=expected):
        selection.select(planned, [text])


@pytest.mark.parametrize("path", sweeps.own_sweeps(), ids=lambda path: path.stem)
def test_the_projects_own_sweeps_expand_and_skip_nothing_unnamed(path):
    sweep = sweeps.load(path)
    assert sweep.name == path.stem
    planned = expansion.expand(sweep)
    assert any(p.skipped is None for p in planned)
    for group in {p.case.group_id for p in planned}:
        assert any(p.case.is_baseline for p in planned if p.case.group_id == group), "a group without a baseline"


def test_slim_controls_are_real_and_belong_to_the_group_of_what_they_control():
    planned = expansion.expand(sweeps.load(sweeps.own_sweeps()[0].parent / "quick.toml"))
    slims = [p for p in planned if p.case.control != "none"]
    assert len(slims) == 5, "one variant, five seeds"
    for p in slims:
        assert p.case.algebra == "real"
        assert p.controlled is not None
        assert p.case.group_id == p.controlled.group_id
        assert not p.case.is_baseline


def test_data_replaces_the_sweeps_data_and_its_shape():
    sweep = sweeps.load(sweeps.own_sweeps()[0].parent / "quick.toml")
    shapes = {p.case.shape for p in expansion.expand(sweep, data="cifar100") if p.case.data == "cifar100"}
    assert {(dict(s)["in_channels"], dict(s)["size"], dict(s)["num_classes"]) for s in shapes} == {(3, 32, 100)}


def test_help_and_list_load_no_torch(tiny):
    code = (
        "import sys; from typer.testing import CliRunner; from bench.cli import app\n"
        "for args in (['--help'], ['list', sys.argv[1]]):\n"
        "    result = CliRunner().invoke(app, args); assert result.exit_code == 0, result.output\n"
        "assert 'real' in result.output\n"
        "heavy = {'torch', 'pandas', 'scipy', 'seaborn', 'matplotlib'} & set(sys.modules); assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tiny)], check=True)


def test_a_filter_takes_aliases_and_commas_in_parentheses(edited):
    planned = expand(edited('["real", "quaternion", "ph"]', '["real", "clifford(0,2)", "cyclic(2)"]'))
    kept = selection.select(planned, ["algebra=cl(0,2),circulant(2)"])
    assert [p.case.algebra for p in kept] == ["real", "clifford(0,2,0)", "cyclic(2)"]
    assert len(selection.select(planned, ["algebra=cl(0,2)"])) == 2


def test_a_filter_keeps_the_slim_controls_of_what_it_selects():
    planned = expansion.expand(sweeps.load(sweeps.own_sweeps()[0].parent / "quick.toml"))
    kept = selection.select(planned, ["algebra=ph", "n=4", "data=digits", "seed=1"])
    assert [(p.case.algebra, p.case.control != "none") for p in kept] == [
        ("real", False),
        ("ph", False),
        ("real", True),
    ]


def test_another_data_set_for_a_sweep_that_trains_nothing_is_refused(tiny):
    with pytest.raises(UsageError, match="--data cifar10: sweep 'tiny' trains nothing"):
        expansion.expand(sweeps.load(tiny), data="cifar10")


def test_whole_and_decimal_scales_are_one_case(tiny):
    tiny.write_text(
        tiny.read_text()
        .replace('subject = "linear"', 'subject = "resnet8"')
        .replace("channels = 8", "width_scale = [1, 1.0]")
    )
    assert len(expand(tiny)) == 4


def test_rank_is_a_factor_of_learned_rules_alone(edited):
    planned = expand(edited("batch = 2", "batch = 2\nrank = [4, 5]"))
    assert [(p.case.algebra, p.case.n, p.case.rank) for p in planned] == [
        ("real", 1, 0), ("quaternion", 4, 0), ("ph", 2, 4), ("ph", 2, 5), ("ph", 4, 4), ("ph", 4, 5)
    ]  # fmt: skip
    assert len({p.case.group_id for p in planned}) == 1


def test_the_generic_rank_is_the_one_of_each_n(edited):
    planned = expand(edited("batch = 2", 'batch = 2\nrank = "generic"'))
    assert [(p.case.n, p.case.rank) for p in planned if p.case.algebra == "ph"] == [(2, 2), (4, 7)]
    with pytest.raises(UsageError, match="rank: 'generous' is no whole number from 0 up"):
        expand(edited('"generic"', '"generous"'))


def test_a_path_that_a_subject_cannot_run_is_skipped_with_those_that_it_can(edited):
    planned = expand(edited('subject = "linear"', 'subject = "gru"').parent / "tiny.toml")
    assert all(p.skipped is None for p in planned)
    planned = expand(edited("batch = 2", 'batch = 2\npath = "bilinear"\nbidirectional = [true, false]'))
    reasons = {p.case.algebra: p.skipped for p in planned}
    assert reasons["real"] is None
    assert reasons["ph"] == "gru runs along kron, dense, not bilinear"


def skipped(edited, axes, device="cpu", metrics='["latency"]'):
    """The reasons for which the quaternion cases of these execution factors are skipped, in order."""
    path = edited("batch = 2", f"batch = 2\n{axes}")
    path.write_text(path.read_text().replace("[protocol]", f'device = "{device}"\n[protocol]', 1))
    path.write_text(path.read_text().replace('["params", "latency", "latency_ratio"]', metrics))
    return [p.skipped for p in expand(path) if p.case.algebra == "quaternion"]


TIMERS = 'timer = ["host_warm", "host_cold", "device_cold", "device_warm", "graph"]'


def test_device_timers_are_skipped_on_a_cpu_with_the_timers_that_it_has(edited):
    warm, cold, *device = skipped(edited, TIMERS)
    assert (warm, cold) == (None, None)
    assert all("a CUDA device's events: on a CPU take host_warm or host_cold" in reason for reason in device)
    assert "timer graph" in device[2]


def test_a_gpu_has_all_timers(edited):
    assert skipped(edited, TIMERS, "cuda") == [None] * 5


@pytest.mark.parametrize(
    ("axes", "device", "expected"),
    [
        ('timer = "graph"\ncompile = ["default", "max-autotune"]', "cuda", [None, "CUDA graphs of its own"]),
        ('compile = "default"\npath = ["auto", "tuned"]', "cpu", [None, "fastest of uncompiled ones"]),
        ('precision = ["none", "amp_bf16", "amp_fp16", "tf32"]', "cpu", [None, None, None, "tensor cores"]),
        ('precision = ["none", "amp_bf16", "amp_fp16", "tf32"]', "cuda", [None] * 4),
        (
            'phase = ["infer", "train_step"]\nprecision = "amp_fp16"',
            "cpu",
            [None, "training in float16 takes a GPU: on a CPU take amp_bf16"],
        ),
        ('dtype = "bfloat16"\nprecision = "amp_bf16"', "cpu", ["float32 parameters, these are bfloat16"]),
        ('dtype = "float64"\nprecision = "tf32"', "cuda", ["float32 parameters, these are float64"]),
    ],
)
def test_factors_that_cannot_go_together_are_skipped_with_the_reason(edited, axes, device, expected):
    reasons = skipped(edited, axes, device)
    assert len(reasons) == len(expected)
    for reason, part in zip(reasons, expected, strict=True):
        assert reason is None if part is None else part in reason


def test_what_is_not_compiled_lacks_no_compile_time(edited):
    path = edited("batch = 2", 'batch = 2\ncompile = ["none", "default"]')
    path.write_text(path.read_text().replace('["params", "latency", "latency_ratio"]', '["latency", "compile_time"]'))
    wanted = {p.case.compile: p.metrics for p in expand(path)}
    assert wanted["none"] == {"latency", "numeric_error"}
    assert wanted["default"] == {"latency", "numeric_error", "compile_time"}


def test_a_training_takes_no_execution_factor_that_it_would_not_follow(tmp_path):
    text = (sweeps.own_sweeps()[0].parent / "quick.toml").read_text()
    path = tmp_path / "quick.toml"
    for factor, value in (("compile", "default"), ("dtype", "bfloat16")):
        path.write_text(text.replace('data = ["digits"]', f'data = ["digits"]\n{factor} = "{value}"'))
        with pytest.raises(UsageError, match=f"axes.{factor}: a training has {factor} .*, not {value}"):
            expand(path)


def test_execution_factors_that_are_not_the_usual_ones_are_in_the_name_of_a_case(edited):
    planned = expand(edited("batch = 2", 'batch = 2\ntimer = "host_cold"\nprecision = "amp_bf16"'))
    assert planned[0].case.name.endswith("/infer host_cold amp_bf16")
