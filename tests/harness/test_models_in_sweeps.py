"""The published models as subjects: their options as axes, and their costs against counts by hand."""

from __future__ import annotations

import pytest

from bench.errors import UsageError
from bench.measure import flops, numerics
from bench.plan.case import Case
from bench.plan.expansion import expand
from bench.plan.sweep import Sweep
from bench.task.subject import SLIM_TOLERANCE, build, build_module, count_params
from phnn.registry import find
from phnn.tolerances import tolerance


def case(subject, algebra="real", n=1, phase="infer", **shape):
    spec = find(subject)
    full = tuple(sorted({**spec.shape, **shape}.items()))
    return Case(subject, "model", algebra, n, full, phase=phase, path="none" if algebra == "real" else "auto")


def planned(subject, metrics=("params",), **axes):
    entry = {"subject": subject, "metrics": list(metrics), "axes": axes}
    return expand(Sweep.model_validate({"schema": 1, "name": "models", "title": "t", "cases": [entry]}))


def test_a_sweep_sets_the_options_of_models():
    cases = planned("resnet152", block=["basic", "bottleneck"], conv_bias=[False, True], stem=["cifar", "imagenet"])
    assert len({p.case.id for p in cases}) == 8
    counts = {count_params(build_module(p.case, "meta")) for p in cases}
    assert len(counts) == 8
    (vgg,) = planned("vgg19_bn", widths="24-72-216-648", head="516-516", algebra="ph", n=3)
    assert count_params(build_module(vgg.case, "meta")) == 9946504
    (full,) = planned("seldnet", form="full", in_channels=16, algebra="quaternion")
    assert count_params(build_module(full.case, "meta")) == 5427370


def test_widths_that_n_does_not_divide_are_skipped_with_those_that_fit():
    for name in ("resnet18", "vgg16_bn", "seldnet"):
        (skipped,) = planned(name, algebra="ph", n=3)
        assert "n=3 does not divide widths[0]=64 (nearest: 63 or 66)" in skipped.skipped


@pytest.mark.parametrize(
    ("subject", "axes", "message"),
    [
        ("resnet18", {"stem": "large"}, r"axes.stem: 'large' is none of cifar, imagenet"),
        ("resnet18", {"stem": ["cifar", 3]}, r"axes.stem: 3 is none of cifar, imagenet"),
        ("resnet18", {"conv_bias": "yes"}, r"axes.conv_bias: 'yes' is neither true nor false"),
        ("seldnet", {"form": "big"}, r"axes.form: 'big' is none of vanilla, augmented, full"),
        ("vgg16_bn", {"head": 512}, r"axes.head: 512 is no text, such as '512-512'"),
        ("seldnet", {"stem": "cifar"}, r"'seldnet' has no such axis"),
    ],
)
def test_an_option_that_is_none_is_an_error_that_names_what_there_is(subject, axes, message):
    with pytest.raises(UsageError, match=message):
        planned(subject, **axes)


def test_a_model_of_sounds_is_not_trained_on_images():
    with pytest.raises(UsageError, match="'seldnet' has no axis size, which data 'digits' decide"):
        planned("seldnet", metrics=["accuracy"], data="digits")


def test_a_published_resnet_has_the_dense_cost_of_the_real_net():
    """505.1 M multiply-adds at 3 input channels, 505.7 M at 4, whatever the algebra."""

    def dense(algebra, n, channels):
        shape = {"widths": "60-120-240-516", "batch": 1, "in_channels": channels}
        return flops.costs(build(case("resnet18", algebra, n, **shape), "meta")).macs_dense

    assert round(dense("real", 1, 3) / 1e6, 1) == 505.1
    assert round(dense("real", 1, 4) / 1e6, 1) == 505.7
    assert dense("quaternion", 4, 4) == dense("ph", 2, 4) == dense("ph", 4, 3) == dense("real", 1, 4)


@pytest.mark.parametrize(("algebra", "n"), [("real", 1), ("ph", 4)])
def test_seldnets_multiply_adds_are_those_counted_by_hand(algebra, n):
    shape = {"batch": 2, "bins": 128, "frames": 64, "width_scale": 0.125}
    cost = flops.costs(build(case("seldnet", algebra, n, **shape), "cpu"))
    pixels = [128 * 64, 16 * 32, 2 * 16, 1 * 8]
    channels = [4, 8, 16, 32, 64]
    convs = sum(9 * p * i * o for p, i, o in zip(pixels, channels[:-1], channels[1:], strict=True))
    gru = sum(2 * 8 * 3 * 32 * (inputs + 32) for inputs in (64, 64, 64))
    linears = 8 * (64 * 128 + 128 * 128 + 128 * 128 + 128 * 42)
    assert cost.macs_dense == 2 * (convs + gru + linears)


@pytest.mark.parametrize(
    ("subject", "shape"),
    [
        ("resnet34", {"batch": 4, "size": 16, "width_scale": 0.125}),
        ("vgg11_bn", {"batch": 4, "width_scale": 0.125, "dropout": "before"}),
        ("seldnet", {"batch": 2, "bins": 128, "frames": 64, "width_scale": 0.125}),
    ],
)
@pytest.mark.parametrize("phase", ["infer", "train_step"])
@pytest.mark.parametrize(("algebra", "n"), [("real", 1), ("quaternion", 4), ("ph", 2)])
def test_models_compute_what_they_compute_in_float64(subject, shape, phase, algebra, n):
    error = numerics.numeric_error(build(case(subject, algebra, n, phase, **shape), "cpu"))
    assert error <= tolerance("float32", "model", "output" if phase == "infer" else "gradient")


@pytest.mark.parametrize("subject", ["resnet34", "vgg16_bn", "seldnet"])
def test_models_have_slim_controls(subject):
    controlled = case(subject, "quaternion", 4)
    target = count_params(build_module(controlled, "meta"))
    slim = count_params(build_module(controlled.slim_control(), "meta", controlled))
    assert abs(slim - target) <= SLIM_TOLERANCE * target
