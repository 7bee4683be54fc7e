"""The model families beyond images-to-classes convolutions: built and measured as a sweep would."""

from dataclasses import replace

import pytest
import torch

from bench.measure import flops, memory, numerics
from bench.plan.case import Case
from bench.task.subject import SLIM_TOLERANCE, build, build_module, count_params
from phnn.registry import find
from phnn.tolerances import tolerance

# small and of input channels that 4 divides, so that nothing is padded
SHAPES = {
    "mlp": {"batch": 2, "in_channels": 4, "size": 4, "widths": "16-24"},
    "unet": {"batch": 2, "in_channels": 4, "size": 8, "widths": "8-16-24"},
    "vit_small": {"batch": 2, "in_channels": 4, "size": 8, "dim": 32, "depth": 2, "heads": 2},
    "gru_classifier": {"batch": 2, "in_channels": 8, "length": 5, "hidden": 16, "bidirectional": True},
}
VARIANTS = [("real", 1), ("quaternion", 4), ("ph", 4)]


def case(name, algebra, n, phase="infer", **shape):
    spec = find(name)
    full = tuple(sorted({**spec.shape, **shape}.items()))
    path = "none" if algebra == "real" else "auto"
    return Case(name, "model", algebra, n, full, phase=phase, path=path)


def small(name, algebra, n, phase="infer", **changes):
    return case(name, algebra, n, phase, **{**SHAPES[name], **changes})


def unet_macs(batch, size, channels, classes, widths):
    """3×3 convolutions, 2×2 transposed ones, whose every output pixel is one product, and the head."""
    a, b, c = widths
    fine, middle, coarse = size**2, size**2 // 4, size**2 // 16
    convolutions = fine * (channels * a + a * a + 2 * a * a + a * a) + coarse * (b * c + c * c)
    convolutions += middle * (a * b + b * b + 2 * b * b + b * b)
    return batch * (9 * convolutions + fine * b * a + middle * c * b + fine * a * classes)


# multiply-adds of one forward call of the shapes above, by hand
VIT_TOKENS, VIT_WEIGHTS = 2 * 5, 2 * (4 * 32**2 + 2 * 32 * 128)
MACS = {
    "mlp": 2 * (64 * 16 + 16 * 24 + 24 * 10),
    "unet": unet_macs(2, 8, 4, 2, (8, 16, 24)),
    "vit_small": 2 * 4 * 64 * 32 + VIT_TOKENS * VIT_WEIGHTS + 2 * 2 * VIT_TOKENS * 5 * 32 + 2 * 32 * 10,
    "gru_classifier": 2 * 5 * (2 * 48 * (8 + 16) + 2 * 48 * (32 + 16)) + 2 * 32 * 10,
}


@pytest.mark.parametrize("phase", ["infer", "train_step"])
@pytest.mark.parametrize(("algebra", "n"), VARIANTS)
@pytest.mark.parametrize("name", SHAPES)
def test_a_models_dense_macs_are_those_counted_by_hand(name, algebra, n, phase):
    cost = flops.costs(build(small(name, algebra, n, phase), "cpu"))
    assert cost.macs_dense == MACS[name]
    assert (cost.macs_weight_build > 0) == (algebra != "real")
    assert algebra != "real" or cost.macs == cost.macs_dense


@pytest.mark.parametrize("phase", ["infer", "forward_backward"])
@pytest.mark.parametrize("name", ["attention", "transformer_encoder_layer"])
def test_a_real_attention_layer_is_counted_whichever_operator_torch_runs_it_by(name, phase):
    shape = tuple(sorted({**find(name).shape, "batch": 2, "length": 5}.items()))
    quaternion = Case(name, "layer", "quaternion", 4, shape, phase=phase)
    real = replace(quaternion, algebra="real", n=1, path="none")
    counted = [flops.costs(build(each, "cpu")) for each in (real, quaternion)]
    assert counted[0].macs == counted[0].macs_dense == counted[1].macs_dense > 0
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize(("algebra", "n"), VARIANTS)
@pytest.mark.parametrize("name", SHAPES)
def test_the_second_opinions_count_a_model_or_say_what_they_left_out(name, algebra, n):
    value, uncounted = flops.flops_torch(build(small(name, algebra, n), "cpu"))
    assert value > 0
    assert ("aten._native_multi_head_attention" in uncounted) == ((name, algebra) == ("vit_small", "real"))
    subject = build(small(name, algebra, n), "cpu")
    value, uncounted = flops.macs_fvcore(subject.module, subject.inputs)
    assert value > 0
    if name == "gru_classifier":
        assert uncounted["aten::gru"] == 1


@pytest.mark.parametrize("phase", ["infer", "train_step"])
@pytest.mark.parametrize(("algebra", "n"), VARIANTS)
@pytest.mark.parametrize("name", SHAPES)
def test_a_models_answer_is_right(name, algebra, n, phase):
    error = numerics.numeric_error(build(small(name, algebra, n, phase), "cpu"))
    assert 0 < error <= tolerance("float32", "model", "output" if phase == "infer" else "gradient")


@pytest.mark.parametrize("name", SHAPES)
def test_a_models_peak_memory_repeats(name):
    peaks = {memory.peak_bytes(lambda: build(small(name, "ph", 4, "train_step"), "cpu"), "cpu") for _ in range(2)}
    assert len(peaks) == 1


@pytest.mark.parametrize("name", SHAPES)
def test_a_model_is_tuned_and_right(name):
    subject = build(replace(small(name, "quaternion", 4), path="tuned"), "cpu")
    subject.call()
    assert numerics.numeric_error(subject) <= tolerance("float32", "model", path="bilinear")


@pytest.mark.parametrize("name", ["unet", "vit_small"])
def test_an_image_model_runs_channels_last(name):
    subject = build(replace(small(name, "quaternion", 4), memory_format="channels_last"), "cpu")
    assert torch.isfinite(subject.call()).all()


@pytest.mark.parametrize(("algebra", "n"), [("quaternion", 4), ("ph", 2), ("ph", 4)])
@pytest.mark.parametrize("name", SHAPES)
def test_a_model_has_a_slim_control(name, algebra, n):
    controlled = case(name, algebra, n)
    target = count_params(build_module(controlled, "meta"))
    slim = count_params(build_module(controlled.slim_control(), "meta", controlled))
    assert abs(slim - target) <= SLIM_TOLERANCE * target
