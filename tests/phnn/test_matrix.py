"""Every layer over every algebra in every dtype: equal to the definition, and all that a torch layer can do.

Pairwise: every two of layer, algebra, dtype, variant and aspect meet. ``--full`` runs the whole product of layer,
algebra, dtype and variant, and the aspects take turns.
"""

from __future__ import annotations

import copy
import io
import pickle
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from kinds import KINDS, Kind, Options
from pairwise import Row, all_rows, pairwise
from ph_reference import parameters64, reference, relative_error
from torch import Tensor, nn

import phnn
import phnn.registry
from phnn.algebras import algebra
from phnn.layers.norm import PHNorm
from phnn.tolerances import tolerance

ALGEBRAS = [
    "complex", "split_complex", "dual", "cyclic(3)", "quaternion", "split_quaternion", "tessarine", "klein4",
    "octonion", "split_octonion", "dual_quaternion", "biquaternion", "clifford(2,1)", "sedenion", "ph1", "ph2", "ph3",
    "ph4",
]  # fmt: skip
DTYPES = ["float64", "float32", "bfloat16", "float16"]


# ----------------------------------------------------------------------------------------------------- aspects
# Each takes a fresh layer, its inputs and the Kind with its options, and says what else must hold.


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def _call(layer: nn.Module, inputs: list[Tensor]) -> Tensor:
    return _first(layer(*inputs))


def _state(layer: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in layer.state_dict().items()}


def deepcopies(layer: nn.Module, inputs: list[Tensor], kind: Kind, options: Options) -> None:
    layer.eval()
    with torch.no_grad():
        y = _call(layer, inputs)
    for _ in range(2):  # after a call without gradients, and after one with them
        twin = copy.deepcopy(layer)
        with torch.no_grad():
            assert torch.equal(_call(twin, inputs), y)
            for parameter in twin.parameters():
                parameter.zero_()
            assert torch.equal(_call(layer, inputs), y)
        _call(layer, inputs)


def pickles(layer: nn.Module, inputs: list[Tensor], kind: Kind, options: Options) -> None:
    layer.eval()
    with torch.no_grad():
        y = _call(layer, inputs)
        assert torch.equal(_call(pickle.loads(pickle.dumps(layer)), inputs), y)
        file = io.BytesIO()
        torch.save(layer, file)
        file.seek(0)
        assert torch.equal(_call(torch.load(file, weights_only=False), inputs), y)


def saves_a_strict_state_dict(layer: nn.Module, inputs: list[Tensor], kind: Kind, options: Options) -> None:
    other = copy.deepcopy(layer)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.copy_(torch.randn_like(parameter))
    _call(layer, inputs)
    trained = _state(layer)
    layer.eval()
    with torch.no_grad():
        y = _call(layer, inputs)
    evaluated = _state(layer)
    assert list(trained) == list(evaluated)
    assert all(torch.equal(trained[name], evaluated[name]) for name in trained)
    assert set(dict(layer.named_parameters())) <= set(trained)
    other.load_state_dict(evaluated, strict=True)
    with torch.no_grad():
        assert torch.equal(_call(other.eval(), inputs), y)


def compiles(layer: nn.Module, inputs: list[Tensor], kind: Kind, options: Options) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(copy.deepcopy(layer), fullgraph=True, backend="aot_eager")
    expected, y = _call(layer, inputs), _call(compiled, inputs)
    _close(y, expected, inputs[0].dtype)
    if y.requires_grad:
        y.square().sum().backward()
        assert all(p.grad is not None for p in compiled.parameters())
    layer.eval()
    torch._dynamo.reset()
    with torch.no_grad():
        expected = _call(layer, inputs)
        y = _call(torch.compile(layer, fullgraph=True, backend="aot_eager"), inputs)
    _close(y, expected, inputs[0].dtype)


def compiles_before_it_has_ever_run(layer: nn.Module, inputs: list[Tensor], kind: Kind, options: Options) -> None:
    """In inference mode, where what a graph keeps and guards is of another kind; nothing was prepared by a call."""
    layer.eval()
    torch._dynamo.reset()
    with torch.inference_mode():
        y = _call(torch.compile(layer, fullgraph=True, dynamic=False, backend="aot_eager"), inputs)
        _close(y, _call(layer, inputs), inputs[0].dtype)


def exports(layer: nn.Module, inputs: list[Tensor], kind: Kind, options: Options) -> None:
    layer.eval()
    program = torch.export.export(layer, tuple(inputs))
    with torch.no_grad():
        _close(_call(program.module(), inputs), _call(layer, inputs), inputs[0].dtype)


def runs_under_autocast(layer: nn.Module, inputs: list[Tensor], kind: Kind, options: Options) -> None:
    layer, inputs = layer.float(), [x.float() for x in inputs]
    expected = _call(layer, inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = _call(layer, inputs)
    if y.requires_grad:
        y.float().square().sum().backward()
    assert relative_error(y, expected.double()) < tolerance("bfloat16", "composite")
    spec, n = phnn.registry.find(kind.name), cast(Any, layer).n
    place = {"device": "cpu"} if spec.placed else {}
    real = spec.create(*kind.arguments(n), algebra="real", **place, **options)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert y.dtype is _call(real, inputs).dtype
    assert all(p.grad is not None and p.grad.dtype is p.dtype for p in layer.parameters())


def lives_on_meta(layer: nn.Module, inputs: list[Tensor], kind: Kind, options: Options) -> None:
    y = _call(layer, inputs)
    on_meta = copy.deepcopy(layer).to("meta")
    assert _call(on_meta, [x.to("meta") for x in inputs]).shape == y.shape
    back = on_meta.to_empty(device="cpu")
    back.load_state_dict(layer.state_dict())
    with torch.no_grad():
        assert torch.equal(_call(back.eval(), inputs), _call(layer.eval(), inputs))


def can_be_frozen(layer: nn.Module, inputs: list[Tensor], kind: Kind, options: Options) -> None:
    expected = _call(layer.eval(), inputs).detach()
    layer.requires_grad_(False)
    for _ in range(2):  # the second call may use what the first kept
        x = [x.clone().requires_grad_(True) for x in inputs]
        y = _call(layer, x)
        _close(y, expected, y.dtype)
        y.sum().backward()
        assert all(each.grad is not None for each in x)
    assert all(p.grad is None for p in layer.parameters())


def changes_dtype(layer: nn.Module, inputs: list[Tensor], kind: Kind, options: Options) -> None:
    with torch.no_grad():
        _call(layer.eval(), inputs)
        y = _call(layer.double(), [x.double() for x in inputs])
    assert y.dtype is torch.float64
    fresh = copy.deepcopy(layer)
    with torch.no_grad():
        assert torch.equal(_call(fresh, [x.double() for x in inputs]), y)
    if not isinstance(layer, PHNorm):
        expected = reference(layer, parameters64(layer), *(x.double() for x in inputs))
        assert relative_error(y, expected) < tolerance("float64", "composite")


def takes_an_empty_batch(layer: nn.Module, inputs: list[Tensor], kind: Kind, options: Options) -> None:
    dim = kind.batch_dim(options)
    for training in (False, True):
        layer.train(training)
        full = _call(layer, inputs)
        y = _call(layer, [x.narrow(dim, 0, 0) for x in inputs])
        assert y.shape == full.narrow(dim, 0, 0).shape
        y.sum().backward() if y.requires_grad else None


def gives_the_same_without_gradients(layer: nn.Module, inputs: list[Tensor], kind: Kind, options: Options) -> None:
    layer.eval()
    expected = _call(layer, inputs).detach()
    for context in (torch.no_grad, torch.no_grad, torch.inference_mode):
        with context():
            _close(_call(layer, inputs), expected, expected.dtype)


ASPECTS = {
    f.__name__: f
    for f in (
        deepcopies,
        pickles,
        saves_a_strict_state_dict,
        compiles,
        compiles_before_it_has_ever_run,
        exports,
        runs_under_autocast,
        lives_on_meta,
        can_be_frozen,
        changes_dtype,
        takes_an_empty_batch,
        gives_the_same_without_gradients,
    )
}


def _close(y: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    assert y.dtype is expected.dtype
    assert y.shape == expected.shape
    assert relative_error(y, expected.double()) <= tolerance(str(dtype).removeprefix("torch."), "composite")


# ------------------------------------------------------------------------------------------------------ matrix

FACTORS = {
    "layer": list(KINDS),
    "algebra": ALGEBRAS,
    "dtype": DTYPES,
    "variant": list(range(6)),
    "aspect": list(ASPECTS),
}


def _allowed(row: Row) -> bool:
    if row["layer"].startswith("rotation") and row["algebra"] != "quaternion":
        return False
    return bool(row["variant"] < len(KINDS[row["layer"]].variants))


def _all_in_turns() -> list[Row]:
    rows = all_rows({**FACTORS, "aspect": [None]}, _allowed)
    return [{**row, "aspect": list(ASPECTS)[i % len(ASPECTS)]} for i, row in enumerate(rows)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "row" in metafunc.fixturenames:
        rows = _all_in_turns() if metafunc.config.getoption("--full", default=False) else pairwise(FACTORS, _allowed)
        metafunc.parametrize("row", rows, ids=["-".join(str(value) for value in row.values()) for row in rows])


def make(row: Row) -> tuple[nn.Module, list[Tensor], Kind, Options]:
    kind = replace(KINDS[row["layer"]], name=row["layer"])
    options = kind.variants[row["variant"]]
    name = row["algebra"]
    n = int(name[2:]) if name.startswith("ph") else algebra(name).n
    over = {"algebra": "ph", "n": n} if name.startswith("ph") else {"algebra": name}
    dtype = getattr(torch, row["dtype"])
    place = {"dtype": dtype} if phnn.registry.find(row["layer"]).placed else {}
    layer = phnn.create_layer(row["layer"], *kind.arguments(n), **place, **over, **options)
    # a batch norm needs spread beyond n samples, a residual scale of its own
    inputs = [torch.randn(shape, dtype=dtype) for shape in kind.shapes(n, options)]
    return layer, inputs, kind, options


def test_every_registered_layer_is_in_the_matrix() -> None:
    assert set(KINDS) == set(phnn.list_layers())


def test_a_layer_equals_its_definition_and_does_what_torchs_do(row: Row) -> None:
    layer, inputs, kind, options = make(row)
    _check_against_reference(layer, inputs, kind, row["dtype"])
    layer, inputs, kind, options = make(row)
    ASPECTS[row["aspect"]](layer, inputs, kind, options)


def _check_against_reference(layer: nn.Module, inputs: list[Tensor], kind: Kind, dtype: str) -> None:
    params = parameters64(layer)
    leaves = [x.clone().requires_grad_(True) for x in inputs]
    leaves64 = [x.double().requires_grad_(True) for x in inputs]
    y, expected = _call(layer, leaves), reference(layer, params, *leaves64)
    assert y.dtype is getattr(torch, dtype)
    assert y.shape == expected.shape
    assert relative_error(y, expected) <= tolerance(dtype, "composite" if kind.composite else "layer")
    probe = torch.randn(expected.shape, dtype=torch.float64).to(y.dtype)
    y.backward(probe)
    expected.backward(probe.double())
    pairs = [(name, p, params[name]) for name, p in layer.named_parameters()]
    pairs += [(f"input {i}", x, x64) for i, (x, x64) in enumerate(zip(leaves, leaves64, strict=True))]
    for name, got, wanted in pairs:
        assert got.grad is not None, f"{name} gets no gradient"
        assert wanted.grad is not None
    whole = torch.cat([wanted.grad.flatten() for _, _, wanted in pairs]).norm()
    for name, got, wanted in pairs:
        # Where products cancel, rounding is all that is left of a gradient: it is judged by the size of the whole,
        # in half precision entirely.
        size = whole if dtype in ("bfloat16", "float16") else max(wanted.grad.norm(), 1e-2 * whole)
        error = (got.grad.double() - wanted.grad).norm()
        assert error <= tolerance(dtype, "composite", "gradient") * size, f"gradient of {name}"
