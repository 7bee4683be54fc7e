"""Recurrent layers: torch's operators on stacks of hypercomplex gates."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import phnn
from phnn.functional import ph_weight, ungroup

PAIRS: list[tuple[Any, Any]] = [(phnn.PHRNN, nn.RNN), (phnn.PHGRU, nn.GRU), (phnn.PHLSTM, nn.LSTM)]
over_pairs = pytest.mark.parametrize(("ours", "torchs"), PAIRS, ids=["rnn", "gru", "lstm"])


def twins(ours: Any, torchs: Any, **options: Any) -> tuple[Any, Any]:
    """A hypercomplex layer, and torch's with the weights that it builds."""
    layer = ours(8, 12, algebra="ph", n=4, **options)
    real = torchs(8, 12, **options)
    biases = {name: p for name, p in layer.state_dict().items() if name.startswith("bias")}
    real.load_state_dict({**layer.weights(), **biases}, strict=True)
    return layer, real


def state(layer: Any, batch: int) -> Any:
    h = torch.randn(layer.num_layers * (2 if layer.bidirectional else 1), batch, 12)
    return (h, h.tanh()) if isinstance(layer, phnn.PHLSTM) else h


def flat(output: tuple[Any, Any]) -> list[Tensor]:
    y, h = output
    return [y.data if isinstance(y, PackedSequence) else y, *(h if isinstance(h, tuple) else (h,))]


def same(a: tuple[Any, Any], b: tuple[Any, Any]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(flat(a), flat(b), strict=True))


OPTIONS: list[dict[str, Any]] = [
    {},
    {"num_layers": 2, "bidirectional": True, "dropout": 0.4},
    {"batch_first": True, "bias": False, "num_layers": 2},
]


@over_pairs
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("training", [True, False])
def test_it_is_torchs_layer_on_the_weights_that_it_builds(
    ours: Any, torchs: Any, options: dict[str, Any], training: bool
) -> None:
    layer, real = twins(ours, torchs, **options)
    layer.train(training), real.train(training)
    x = torch.randn(3, 5, 8)
    hx = state(layer, 3 if options.get("batch_first") else 5)
    for context in (torch.enable_grad, torch.no_grad, torch.no_grad):
        with context():
            for h in (None, hx):
                torch.manual_seed(3)
                expected = real(x, h)
                torch.manual_seed(3)
                y = layer(x, h)
                if context is torch.enable_grad:
                    assert same(y, expected)
                else:  # torch multiplies in another order where a weight requires a gradient, as only its own does
                    torch.testing.assert_close(flat(y), flat(expected))


@over_pairs
@pytest.mark.parametrize("options", OPTIONS[1:])
@pytest.mark.parametrize("enforce_sorted", [True, False])
def test_packed_sequences_run_as_torchs(
    ours: Any, torchs: Any, options: dict[str, Any], enforce_sorted: bool
) -> None:
    layer, real = twins(ours, torchs, **options)
    layer.eval(), real.eval()
    lengths = [5, 4, 2] if enforce_sorted else [2, 5, 4]
    x = torch.randn(3, 5, 8)
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=enforce_sorted)
    for h in (None, state(layer, 3)):
        y, expected = layer(packed, h), real(packed, h)
        assert same(y, expected)
        ours_padded, ours_lengths = pad_packed_sequence(y[0], batch_first=True)
        assert torch.equal(ours_padded, pad_packed_sequence(expected[0], batch_first=True)[0])
        assert ours_lengths.tolist() == lengths


@over_pairs
def test_an_unbatched_sequence_runs_as_torchs(ours: Any, torchs: Any) -> None:
    layer, real = twins(ours, torchs)
    x, h = torch.randn(5, 8), state(layer, 1)
    h = tuple(s[:, 0] for s in h) if isinstance(h, tuple) else h[:, 0]
    assert same(layer(x), real(x))
    assert same(layer(x, h), real(x, h))


@over_pairs
def test_real_is_torchs_own(ours: Any, torchs: Any) -> None:
    torch.manual_seed(1)
    a = ours(6, 5, 2, algebra="real", bidirectional=True)
    torch.manual_seed(1)
    b = torchs(6, 5, 2, bidirectional=True)
    assert type(a) is torchs
    x = torch.randn(3, 2, 6)
    assert same(a(x), b(x))


def test_every_gate_is_hypercomplex_by_itself() -> None:
    layer = phnn.PHGRU(8, 4, algebra="quaternion")  # 3 gates × 4: the stack of 12 rows is no quaternion matrix
    gates = layer.weights()["weight_ih_l0"].chunk(3)
    for gate, F in zip(gates, layer.F_ih_l0.chunk(3, 1), strict=True):
        torch.testing.assert_close(gate, ph_weight(layer.A, F))


def test_a_bidirectional_output_becomes_component_major_by_ungroup() -> None:
    layer = phnn.PHGRU(8, 8, bidirectional=True, n=4)
    y, _ = layer(torch.randn(3, 2, 8))
    forward, backward = y.chunk(2, -1)
    together = ungroup(y, 4, 2, -1)
    expected = torch.cat([part for k in range(4) for part in (forward.chunk(4, -1)[k], backward.chunk(4, -1)[k])], -1)
    assert torch.equal(together, expected)


def test_the_kept_weights_follow_every_change() -> None:
    layer, _ = twins(phnn.PHLSTM, nn.LSTM, num_layers=2)
    x = torch.randn(3, 2, 8)
    with torch.no_grad():
        before = layer(x)[0]
        assert torch.equal(layer(x)[0], before)
        for name, parameter in layer.named_parameters():
            parameter.mul_(1.5)
            after = layer(x)[0]
            layer.clear_cache()
            assert torch.equal(layer(x)[0], after), name
            assert not torch.equal(after, before), name
            before = after
    layer.double()
    assert layer(x.double())[0].dtype is torch.float64
    assert set(layer.state_dict()) == {name for name, _ in layer.named_parameters()}


def test_the_weights_are_built_once_while_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = phnn.PHGRU(8, 8, n=2)
    with torch.no_grad():
        y = layer(torch.ones(3, 2, 8))[0]
        monkeypatch.setattr(layer, "_build", lambda: pytest.fail("built again"))
        assert torch.equal(layer(torch.ones(3, 2, 8))[0], y)


def test_a_rule_may_be_shared_by_all_weights() -> None:
    rule = phnn.learned_rule(4)
    layer = phnn.PHGRU(8, 8, 2, rule=rule)
    assert sum(p is rule for p in layer.parameters()) == 1
    assert len([name for name in layer.state_dict() if name.startswith("A_")]) == 4
    layer(torch.randn(3, 2, 8))[0].sum().backward()
    assert rule.grad is not None


@over_pairs
def test_initial_weights_have_torchs_variance(ours: Any, torchs: Any) -> None:
    weights, real = ours(64, 64, 2, algebra="quaternion").weights(), torchs(64, 64, 2)
    for name, weight in weights.items():
        assert float(weight.detach().std()) == pytest.approx(float(getattr(real, name).detach().std()), rel=0.05)


def test_cost_counts_every_step_of_every_weight() -> None:
    layer = phnn.PHLSTM(8, 12, 2, bidirectional=True, algebra="quaternion")
    x = torch.randn(5, 3, 8)
    cost = layer.cost(x, layer(x))
    numel = sum(W.numel() for W in layer.weights().values())
    assert cost.macs == cost.macs_dense == 15 * numel
    assert cost.macs_weight_build == 4 * numel
    packed = pack_padded_sequence(x, [5, 2, 1])
    assert layer.cost(packed, layer(packed)).macs == 8 * numel


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: phnn.PHGRU(6, 8, algebra="quaternion"), ValueError, "input_size=6"),
        (lambda: phnn.PHGRU(8, 6, algebra="quaternion"), ValueError, "hidden_size=6"),
        (lambda: phnn.PHLSTM(8, 8, n=4, proj_size=4), ValueError, "proj_size"),
        (lambda: phnn.PHRNN(8, 8, n=4, nonlinearity="sigmoid"), ValueError, "nonlinearity"),
        (lambda: phnn.PHGRU(8, 8, n=4)(torch.randn(3, 2, 4)), RuntimeError, r"input.size\(-1\) is 8, not 4"),
        (lambda: phnn.PHGRU(8, 8, n=4)(torch.randn(1, 3, 2, 8)), ValueError, "2D or 3D"),
        (lambda: phnn.PHGRU(8, 8, n=4)(torch.randn(3, 2, 8).double()), ValueError, "float32"),
        (lambda: phnn.PHGRU(8, 8, n=4)(torch.randn(3, 2, 8), torch.zeros(1, 3, 8)), RuntimeError, "hidden size"),
        (lambda: phnn.PHGRU(8, 8, n=4)(torch.randn(3, 8), torch.zeros(1, 1, 8)), RuntimeError, "unbatched"),
        (
            lambda: phnn.PHGRU(8, 8, n=4)(torch.randn(3, 8), (torch.zeros(1, 8),) * 2),
            TypeError,
            "a tensor, not tuple",
        ),
        (lambda: phnn.PHLSTM(8, 8, n=4)(torch.randn(3, 2, 8), torch.zeros(2, 1, 2, 8)), TypeError, "a pair"),
    ],
)
def test_what_cannot_be_is_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@over_pairs
def test_gradients_are_those_of_finite_differences(ours: Any, torchs: Any) -> None:
    layer = ours(2, 2, bidirectional=True, num_layers=2, n=2, dtype=torch.float64)
    names = list(dict(layer.named_parameters()))

    def call(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))[0]

    x = torch.randn(3, 1, 2, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(call, (x, *layer.parameters()), fast_mode=True)
