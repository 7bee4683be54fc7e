"""Degrees of freedom, against the rank of the whole Jacobian and against the formula."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import phnn

F64 = torch.float64


def jacobian_rank(layer: Any) -> int:
    """rank of dW/dtheta, by the singular values of the matrix that autograd gives."""
    names = [name for name, _ in layer.named_parameters() if not name.startswith("bias")]
    values = tuple(getattr(layer, name).detach() for name in names)

    class Weight(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self) -> Tensor:
            weights = self.layer.weight if hasattr(self.layer, "weight") else self.layer._build()
            return torch.cat([W.flatten() for W in weights]) if isinstance(weights, list) else weights.flatten()

    module = Weight()

    def weight(*values: Tensor) -> Tensor:
        given = {f"layer.{name}": value for name, value in zip(names, values, strict=True)}
        return torch.func.functional_call(module, given, ())

    jacobians = torch.autograd.functional.jacobian(weight, values)
    return int(torch.linalg.matrix_rank(torch.cat([J.flatten(1) for J in jacobians], 1)))


LAYERS: list[Any] = [
    lambda: phnn.QuaternionRotationLinear(8, 8, dtype=F64),
    lambda: phnn.QuaternionRotationConv2d(8, 8, 2, groups=2, dtype=F64),
    lambda: phnn.PHLinear(8, 8, n=2, dtype=F64),
    lambda: phnn.PHLinear(12, 8, n=4, dtype=F64),
    lambda: phnn.PHLinear(3, 3, n=3, dtype=F64),
    lambda: phnn.PHLinear(8, 12, algebra="quaternion", dtype=F64),
    lambda: phnn.PHConv2d(4, 6, 3, n=2, groups=1, dtype=F64),
    lambda: phnn.PHConvTranspose2d(4, 4, 2, n=2, groups=2, dtype=F64),
    lambda: phnn.PHGRU(4, 4, n=2, dtype=F64),
    lambda: phnn.PHGRU(4, 4, rule=phnn.learned_rule(2, dtype=F64), dtype=F64),
    lambda: phnn.PHRNN(4, 4, 2, bidirectional=True, algebra="complex", dtype=F64),
]


@pytest.mark.parametrize("make", LAYERS)
def test_dof_is_the_rank_of_the_jacobian_and_the_formula(make: Any) -> None:
    layer = make()
    assert phnn.dof(layer) == jacobian_rank(layer) == phnn.dof_formula(layer)


@pytest.mark.parametrize(("n", "width", "taps"), [(2, 8, 1), (4, 16, 9), (8, 16, 1)])
def test_the_formula_is_that_of_the_documentation(n: int, width: int, taps: int) -> None:
    layer = phnn.PHLinear(width, width, n=n) if taps == 1 else phnn.PHConv2d(width, width, 3, n=n)
    if width * width * taps >= n**3:  # n <= m
        assert phnn.dof(layer) == n**3 + width * width * taps // n - n**2


def test_dof_sees_a_rule_and_filters_of_lower_rank() -> None:
    layer = phnn.PHLinear(8, 8, n=2, dtype=F64)
    full = phnn.dof(layer)
    with torch.no_grad():
        layer.A[1] = layer.A[0]
    assert phnn.dof(layer) == jacobian_rank(layer) < full
    with torch.no_grad():
        layer.F[1] = 2 * layer.F[0]
    assert phnn.dof(layer) == jacobian_rank(layer)
    assert phnn.dof_formula(layer) == full


def test_redundancy_is_what_the_parameters_have_beyond() -> None:
    layer = phnn.PHLinear(16, 16, n=4)
    assert phnn.redundancy(layer) == sum(p.numel() for p in (layer.A, layer.F)) - phnn.dof(layer) == 16
    assert phnn.redundancy(phnn.PHLinear(16, 16, algebra="quaternion")) == 0
    net = nn.Sequential(phnn.PHLinear(16, 16, n=4), nn.Linear(16, 3))
    assert phnn.redundancy(net) == 16
    assert phnn.dof(net) == phnn.dof(net[0]) + 48


def test_a_rotation_is_as_free_as_its_angles_and_its_scale() -> None:
    layer = phnn.QuaternionRotationLinear(8, 8, dtype=F64)
    assert phnn.redundancy(layer) == layer.scale.numel() == 4
    with torch.no_grad():
        layer.scale[0, 0] = 0
    assert phnn.dof(layer) == jacobian_rank(layer) == 13
    assert phnn.dof_formula(layer) == 16


def test_a_bias_is_known_by_its_own_name_alone() -> None:
    assert phnn.dof(nn.ModuleDict({"debias": nn.Linear(4, 6)})) == 24
    assert phnn.dof(nn.GRU(4, 4)) == 2 * 48
    assert phnn.dof(nn.MultiheadAttention(8, 2)) == 4 * 64


def test_a_torch_layer_is_as_free_as_its_weight_is_large() -> None:
    assert phnn.dof(nn.Linear(4, 6)) == phnn.dof_formula(nn.Linear(4, 6)) == 24


def test_dof_needs_values() -> None:
    with pytest.raises(ValueError, match="meta"):
        phnn.dof(phnn.PHLinear(8, 8, n=2, device="meta"))
    with pytest.raises(ValueError, match="meta"):
        phnn.dof(phnn.QuaternionRotationLinear(8, 8, device="meta"))
