"""The nearest sum of Kronecker products: exact where there is one, and no neighbour is nearer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from phnn import _projection
from phnn._projection import Product, nearest_filters, nearest_rule, project_, rearranged, squared_distance
from phnn.algebras import algebra
from phnn.functional import ph_weight


def by_kron(A: Tensor, F: Tensor) -> Tensor:
    """sum_i A_i (x) F_i of matrices, by torch's own Kronecker product."""
    return torch.stack([torch.kron(a, f) for a, f in zip(A, F, strict=True)]).sum(0)


def product_for(W: Tensor, n: int, rule: Tensor | None = None, transposed: bool = False) -> Product:
    rows, cols, *kernel = W.shape
    F = nn.Parameter(torch.empty(n, rows // n, cols // n, *kernel, dtype=W.dtype))
    A = nn.Parameter(torch.empty(n, n, n, dtype=W.dtype)) if rule is None else rule.to(W.dtype)
    return Product(W, A, F, (F, A) if isinstance(A, nn.Parameter) else (F,), True, transposed)


def rebuilt(product: Product) -> Tensor:
    return ph_weight(product.A.mT if product.transposed else product.A, product.F).detach()


def test_a_sum_of_kronecker_products_is_a_product_of_the_rearranged_matrices() -> None:
    A, F = torch.randn(3, 3, 3, dtype=torch.float64), torch.randn(3, 4, 5, dtype=torch.float64)
    R = rearranged(by_kron(A, F), 3)
    torch.testing.assert_close(R, A.flatten(1).t() @ F.flatten(1))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("transposed", [False, True])
def test_what_is_a_sum_of_products_is_found_again(n: int, transposed: bool) -> None:
    A, F = torch.randn(n, n, n, dtype=torch.float64), torch.randn(n, 5, 12, 3, dtype=torch.float64)
    W = ph_weight(A, F).float()
    product = product_for(W, n, transposed=transposed)
    error, size = project_(product)
    assert (error / size) ** 0.5 <= 1e-6
    assert (rebuilt(product) - W).norm() <= 1e-6 * W.norm()


@pytest.mark.parametrize("name", ["complex", "dual", "quaternion", "octonion", "clifford(2,1)"])
@pytest.mark.parametrize("transposed", [False, True])
def test_filters_of_a_fixed_algebra_are_found_again(name: str, transposed: bool) -> None:
    rule = torch.tensor(algebra(name).rule)
    F = torch.randn(rule.shape[0], 3, 4, dtype=torch.float64)
    W = ph_weight(rule.mT if transposed else rule, F)
    product = product_for(W, rule.shape[0], rule, transposed)
    error, size = project_(product)
    assert (error / size) ** 0.5 <= 1e-14
    torch.testing.assert_close(product.F.detach(), F)


def test_no_other_rule_or_filters_come_nearer() -> None:
    """The gradient of the distance is zero, and what is left is the energy beyond rank n."""
    n, W = 4, torch.randn(16, 24, dtype=torch.float64)
    product = product_for(W, n)
    error, size = project_(product)
    singular = torch.linalg.svdvals(rearranged(W, n))
    assert error == pytest.approx(float(singular[n:].square().sum()))
    assert size == pytest.approx(float(W.square().sum()))
    (ph_weight(product.A, product.F) - W).square().sum().backward()
    for parameter in (product.A, product.F):
        assert parameter.grad is not None
        assert parameter.grad.norm() <= 1e-10


def test_filters_of_a_given_rule_are_the_least_squares_solution() -> None:
    rule, W = torch.randn(2, 2, 2, dtype=torch.float64), torch.randn(8, 6, dtype=torch.float64)
    product = product_for(W, 2, rule)
    kept = rule.clone()
    project_(product)
    assert torch.equal(product.A, kept), "a rule that is not the weight's own stays"
    (ph_weight(rule, product.F) - W).square().sum().backward()
    assert product.F.grad is not None
    assert product.F.grad.norm() <= 1e-12


def test_a_found_rule_has_the_scale_of_a_fresh_one() -> None:
    n = 4
    product = product_for(1e-3 * torch.randn(16, 24, dtype=torch.float64), n)
    project_(product)
    energies = product.A.detach().square().sum((1, 2))
    torch.testing.assert_close(energies, torch.full_like(energies, n))


@pytest.mark.parametrize("needed", [0, 1, 3])
def test_matrices_that_a_weight_does_not_need_can_still_be_learned(needed: int) -> None:
    """A zero weight, say of a residual branch, must not leave rows of blocks that nothing can ever reach."""
    n = 4
    A, F = torch.randn(n, n, n, dtype=torch.float64), torch.zeros(n, 3, 5, dtype=torch.float64)
    F[:needed] = torch.randn(needed, 3, 5, dtype=torch.float64)
    product = product_for(ph_weight(A, F), n)
    error, _ = project_(product)
    assert error <= 1e-20
    assert (product.A.detach().square().sum((0, 2)) > 1e-3).all(), "every row of blocks has a part in some A_i"
    gram = product.A.detach().flatten(1) @ product.A.detach().flatten(1).t()
    torch.testing.assert_close(gram, n * torch.eye(n, dtype=torch.float64))


def test_large_weights_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    R = torch.randn(9, 50, dtype=torch.float64)
    whole = nearest_rule(R, 3)
    filters = nearest_filters(R, whole)
    monkeypatch.setattr(_projection, "_COLUMNS", 7)
    parts = nearest_rule(R, 3)
    torch.testing.assert_close(parts @ parts.t(), whole @ whole.t())
    torch.testing.assert_close(nearest_filters(R, whole), filters)
    assert squared_distance(R, whole, filters) == pytest.approx(float((R - whole @ filters).square().sum()))
