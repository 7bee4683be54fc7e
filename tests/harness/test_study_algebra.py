"""Algebra recovery: the distance between rules, and that layers find the rule that made their data."""

import math

import pytest
import torch

from bench.study import tasks
from bench.study.tasks.algebra import rule_distance
from phnn import create_layer, create_model
from phnn.algebras import algebra
from phnn.functional import ph_weight


def rule(name):
    return torch.tensor(algebra(name).rule)


def test_the_distance_does_not_see_the_freedom_of_the_rule():
    """(M A, M⁻ᵀ F) is the same layer, so it has the same rule."""
    generator = torch.Generator().manual_seed(0)
    A, F = rule("quaternion"), torch.randn(4, 3, 5, generator=generator, dtype=torch.float64)
    M = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    mixed, filters = torch.einsum("ij,jkl->ikl", M, A), torch.einsum("ij,jpq->ipq", M.inverse().T, F)
    assert torch.allclose(ph_weight(mixed, filters), ph_weight(A, F))
    assert rule_distance(mixed, A) < 1e-12
    assert rule_distance(1e-6 * mixed, A) < 1e-12


def test_the_distance_of_rules_of_the_same_algebra_in_another_basis_of_outputs_is_not_zero():
    """Only the weights count: permuted outputs are another set of weights."""
    permuted = rule("quaternion")[:, [1, 0, 2, 3]]
    assert rule_distance(permuted, rule("quaternion")) > 0.5


@pytest.mark.parametrize("name", ["tessarine", "klein4", "split_quaternion"])
def test_another_algebra_is_far_away(name):
    assert rule_distance(rule(name), rule("quaternion")) > 0.9


def test_the_right_product_is_not_the_left_product():
    assert rule_distance(rule("quaternion").permute(2, 1, 0), rule("quaternion")) > 0.9


def test_the_distance_is_the_sine_of_the_angle_by_which_one_matrix_was_turned():
    T = rule("quaternion")
    outside = torch.zeros(4, 4, dtype=T.dtype)
    outside[0, 0], outside[1, 1] = 1, -1  # orthogonal to all four matrices
    for angle in (1e-7, 1e-3, 0.5):
        turned = T.clone()
        turned[2] = math.cos(angle) * T[2] + math.sin(angle) * outside * (T[2].norm() / outside.norm())
        assert rule_distance(turned, T) == pytest.approx(math.sin(angle), rel=1e-6)
        assert rule_distance(T, turned) == pytest.approx(math.sin(angle), rel=1e-6)


def test_a_rule_that_lost_a_direction_is_as_far_as_can_be():
    T = rule("quaternion").clone()
    T[3] = T[1] + T[2]
    assert rule_distance(T, rule("quaternion")) == 1.0


def test_the_data_are_those_of_a_quaternion_layer():
    x, y = tasks.create("hamilton").splits(0, None).train.tensors
    W = torch.linalg.lstsq(x.double(), y.double()).solution.T
    assert (x.double() @ W.T - y).abs().max() < 1e-5, "not linear"
    blocks = W.reshape(4, 8, 4, 8).permute(0, 2, 1, 3).reshape(16, 64)  # what the rule spans: W = sum_i A_i (x) F_i
    span = torch.linalg.svd(blocks)[0][:, :4].T.reshape(4, 4, 4)
    assert rule_distance(span, rule("quaternion")) < 1e-5


def test_a_distance_is_measured_where_there_is_one_rule_of_four_dimensions():
    measure = tasks.create("hamilton").module_metrics
    exact = measure(create_layer("linear", 32, 32, algebra="quaternion"))
    assert exact["rule_distance"] < 1e-7
    assert measure(create_layer("linear", 32, 32, algebra="ph", n=4))["rule_distance"] > 0.1
    assert measure(create_layer("linear", 32, 32, algebra="ph", n=2)) == {}
    assert measure(create_layer("linear", 32, 32, algebra="real")) == {}
    assert measure(create_model("resnet8", algebra="ph", n=4)) == {}
    assert tasks.create("toy-line").module_metrics(create_layer("linear", 4, 4, algebra="ph", n=4)) == {}


@pytest.mark.parametrize(("name", "steps", "most"), [("hamilton", 1500, 1e-3), ("hamilton-conv", 500, 1e-2)])
def test_a_layer_with_a_learned_rule_finds_the_hamilton_product(name, steps, most):
    task = tasks.create(name)
    torch.manual_seed(0)
    layer = (
        create_layer("linear", 32, 32, algebra="ph", n=4)
        if name == "hamilton"
        else create_layer("conv2d", 16, 16, 3, padding=1, algebra="ph", n=4)
    )
    assert task.module_metrics(layer)["rule_distance"] > 0.3
    train = task.splits(0, None).train
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.02, weight_decay=0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        x, y = train[torch.randint(len(train), (64,), generator=generator)]
        optimizer.zero_grad()
        task.loss(layer(x), y).backward()
        optimizer.step()
        schedule.step()
    assert task.module_metrics(layer)["rule_distance"] < most
