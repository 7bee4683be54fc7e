"""FLOP and bytes of a call, against counts done by hand."""

import pytest
import torch

import phnn
from bench.measure import flops, traffic
from bench.plan.case import Case
from bench.task.subject import Subject, build
from phnn.cost import Cost
from phnn.registry import find

BATCH, CHANNELS, OUT = 16, 32, 64
MACS, WEIGHTS, ENDS = BATCH * CHANNELS * OUT, CHANNELS * OUT, BATCH * (CHANNELS + OUT)


def found(algebra="real", n=1, phase="infer", path="none", dtype="float32", subject="linear", **shape):
    spec = find(subject)
    shape = shape or {"batch": BATCH, "channels": CHANNELS, "out_channels": OUT}
    full = tuple(sorted({**spec.shape, **shape}.items()))
    built = build(Case(subject, spec.kind, algebra, n, full, phase=phase, path=path, dtype=dtype), "cpu")
    return traffic.traffic(built, flops.costs(built)), built


def test_a_real_linear_reads_input_and_weights_and_writes_its_output_once():
    real, _ = found()
    assert (real.flop, real.bytes) == (2 * MACS, 4 * (ENDS + WEIGHTS))
    assert real.intensity == real.flop / real.bytes


@pytest.mark.parametrize(("path", "read", "build_macs"), [
    ("dense", WEIGHTS, 0), ("kron", WEIGHTS, 4 * WEIGHTS), ("factored", WEIGHTS // 4, 0),
    ("bilinear", 8 * WEIGHTS // 16, 0),
])  # fmt: skip
def test_a_path_reads_the_weights_that_it_applies(path, read, build_macs):
    """kron builds W anew in each call, which is arithmetic of the call; the others keep what they built."""
    quaternion, built = found("quaternion", 4, path=path)
    assert quaternion.bytes == 4 * (ENDS + read)
    assert quaternion.flop == 2 * (flops.costs(built).macs + build_macs)


def test_half_a_word_is_half_the_bytes():
    assert found(dtype="bfloat16")[0].bytes * 2 == found()[0].bytes


def test_backward_is_two_products_more_and_a_step_passes_five_times_over_the_parameters():
    forward, built = found("ph", 4, path="dense")
    both, _ = found("ph", 4, phase="forward_backward", path="dense")
    step, _ = found("ph", 4, phase="train_step", path="dense")
    assert (both.flop, both.bytes) == (3 * (forward.flop + 2 * 4 * WEIGHTS), 3 * forward.bytes)
    parameters = sum(p.numel() for p in built.module.parameters())
    assert (step.flop, step.bytes) == (both.flop, both.bytes + 5 * 4 * parameters)


def test_a_fixed_rule_has_no_gradient():
    forward, _ = found("quaternion", 4, path="dense")
    both, _ = found("quaternion", 4, phase="forward_backward", path="dense")
    assert both.flop == 3 * forward.flop + 2 * 2 * 4 * WEIGHTS
    assert both.bytes == 3 * forward.bytes


@pytest.mark.parametrize(("path", "mixing"), [
    ("factored", 4 * 4 * BATCH * OUT), ("bilinear", 8 * (BATCH * CHANNELS + BATCH * OUT)),
])  # fmt: skip
def test_nor_has_it_where_it_mixes_inputs_and_outputs(path, mixing):
    """Of the rule's products there is the one with the gradient of what is mixed, and not that of the rule."""
    both, built = found("quaternion", 4, phase="forward_backward", path=path)
    cost = flops.costs(built)
    assert both.flop == 2 * (3 * (cost.macs - mixing) + 2 * (mixing + cost.macs_weight_build))


@pytest.mark.parametrize(("algebra", "n"), [("real", 1), ("quaternion", 4), ("ph", 2)])
@pytest.mark.parametrize(("subject", "shape"), [
    ("linear", {"batch": 16, "channels": 32}), ("conv2d", {"batch": 2, "channels": 8, "size": 6}),
    ("resnet8", {"batch": 2, "size": 8, "in_channels": 4}),
])  # fmt: skip
def test_a_training_call_is_what_a_counter_sees_of_it(subject, shape, algebra, n):
    """A net's data have no gradient: its first layer has one product fewer than the others."""
    asked = {"phase": "train_step", "path": "none" if algebra == "real" else "dense", "subject": subject, **shape}
    moved, built = found(algebra, n, **asked)
    assert moved.flop == flops.flops_torch(built)[0]


def test_the_first_layer_of_a_net_moves_no_gradient_of_its_input():
    net, data = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)), torch.randn(3, 4)
    case = Case("resnet8", "model", "real", 1, (), phase="forward_backward", path="none")
    moved = traffic.traffic(Subject(case, net, (data,), lambda: None), Cost(macs=3 * (32 + 16)))
    first, second = 4 * (3 * 4 + 32 + 3 * 8), 4 * (3 * 8 + 16 + 3 * 2)
    assert (moved.flop, moved.bytes) == (2 * 3 * (2 * 32 + 3 * 16), 2 * first + 3 * second)


def test_of_a_recurrent_first_layer_the_fewer_flop_are_taken():
    net, data = torch.nn.LSTM(4, 8), torch.randn(5, 3, 4)
    case = Case("resnet8", "model", "real", 1, (), phase="forward_backward", path="none")
    macs = 15 * 32 * (4 + 8)
    assert traffic.traffic(Subject(case, net, (data,), lambda: None), Cost(macs=macs)).flop == 2 * 2 * macs


def test_what_multiplies_nothing_has_no_intensity():
    norm, _ = found(subject="batch_norm2d", batch=2, channels=8)
    assert norm.intensity is None


@pytest.mark.parametrize("algebra", ["real", "quaternion"])
@pytest.mark.parametrize("name", [name for name in phnn.list_layers() if find(name).paths])
def test_every_layer_with_arithmetic_moves_at_least_its_input_and_output(name, algebra):
    moved, built = found(algebra, 1 if algebra == "real" else 4, path="none" if algebra == "real" else "auto",
                         subject=name, batch=2)  # fmt: skip
    ends = {id(x): x for x in (*built.inputs, built.call())}
    # of attention the products are counted, whose parts read and write at least as much
    assert moved.bytes >= 4 * sum(x.numel() for x in ends.values())
    assert moved.intensity > 0


def test_of_a_net_its_layers_are_counted_and_no_part_twice():
    net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4), torch.nn.MultiheadAttention(4, 2))
    net.position = torch.nn.Parameter(torch.zeros(4, 4))
    assert traffic.multiplying(net) == [net[0], net[2]]
