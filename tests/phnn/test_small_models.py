"""The perceptron, the U-Net, the vision transformer and the recurrent classifier, each over any algebra."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import phnn
from phnn.models._factory import LayerFactory, concatenated, zero_first
from phnn.registry import find
from phnn.tolerances import tolerance

VARIANTS: list[Any] = ["real", "quaternion", 2, 4]

# small ones of each family: options, shape of the input, shape of the output
SMALL: dict[str, tuple[dict[str, Any], tuple[int, ...], tuple[int, ...]]] = {
    "mlp": ({"size": 4, "widths": (16, 24)}, (4, 3, 4, 4), (4, 10)),
    "unet": ({"widths": (8, 16, 24)}, (4, 3, 8, 12), (4, 2, 8, 12)),
    "vit_small": ({"size": 8, "dim": 32, "depth": 2, "heads": 2}, (4, 3, 8, 8), (4, 10)),
    "gru_classifier": ({"in_channels": 6, "hidden": 16, "bidirectional": True}, (4, 5, 6), (4, 10)),
}
VIT_MEAN = ("vit_small", {**SMALL["vit_small"][0], "class_token": False}, *SMALL["vit_small"][1:])
FORMS = [(name, *form) for name, form in SMALL.items()] + [VIT_MEAN]


def default_form(name: str) -> tuple[str, dict[str, Any], tuple[int, ...], tuple[int, ...]]:
    spec = find(name)
    batch, *rest = spec.input_shape({**spec.shape, "batch": 2})
    output = (batch, spec.shape["num_classes"], *(rest[1:] if name == "unet" else []))
    return name, {}, (batch, *rest), output


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "form" in metafunc.fixturenames:
        full = metafunc.config.getoption("--full", default=False)
        forms = FORMS + ([default_form(name) for name in SMALL] if full else [])
        metafunc.parametrize("form", forms, ids=[f"{name}-{len(options)}" for name, options, *_ in forms])


def over(variant: Any) -> dict[str, Any]:
    return {"algebra": "ph", "n": variant} if isinstance(variant, int) else {"algebra": variant}


def build(name: str, variant: Any, **options: Any) -> Any:
    return phnn.create_model(name, **over(variant), **options)


def small(name: str, variant: Any, **options: Any) -> tuple[Any, Tensor]:
    own, shape, _ = SMALL[name]
    return build(name, variant, **{**own, **options}), torch.randn(shape)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def hypercomplex(model: nn.Module) -> list[Any]:
    """The layers that build their weights from A and F."""
    return [m for m in model.modules() if hasattr(m, "factors")]


# ---------------------------------------------------------------------------------- outputs and gradients


@pytest.mark.parametrize("variant", VARIANTS)
def test_outputs_are_finite_and_every_parameter_receives_a_gradient(form: Any, variant: Any) -> None:
    name, options, input_shape, output_shape = form
    model = build(name, variant, **options)
    y = model(torch.randn(input_shape))
    assert y.shape == output_shape
    assert torch.isfinite(y).all()
    y.square().sum().backward()
    for parameter, tensor in model.named_parameters():
        assert tensor.grad is not None, parameter
        assert tensor.grad.abs().sum() > 0, parameter


@pytest.mark.parametrize("name", SMALL)
def test_a_sample_has_the_same_output_whatever_its_batch(name: str) -> None:
    model, x = small(name, 4)
    model.eval()
    torch.testing.assert_close(model(x)[:1], model(x[:1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_real_models_are_made_of_torch_layers_alone(name: str) -> None:
    model, _ = small(name, "real")
    assert {type(m).__module__.split(".")[0] for m in model.modules() if not list(m.children())} == {"torch"}


@pytest.mark.parametrize("path", ["kron", "dense"])
@pytest.mark.parametrize("name", SMALL)
def test_a_model_runs_along_the_path_that_it_is_given(name: str, path: str) -> None:
    model, x = small(name, "quaternion", path=path)
    model.eval()(x)
    assert {layer.path_built for layer in hypercomplex(model)} == {path}


# ---------------------------------------------------------------------------------------------- parameters


def unet_count(channels: int, classes: int, widths: tuple[int, ...]) -> int:
    """3×3 convolutions without bias, batch norms of two numbers a channel, 2×2 transposed ones with bias, the head."""
    a, b, c, d, e = widths
    encoder = [(channels, a), (a, a), (a, b), (b, b), (b, c), (c, c), (c, d), (d, d), (d, e), (e, e)]
    decoder = [(2 * d, d), (d, d), (2 * c, c), (c, c), (2 * b, b), (b, b), (2 * a, a), (a, a)]
    ups = [(e, d), (d, c), (c, b), (b, a)]
    convolutions = sum(9 * i * o + 2 * o for i, o in encoder + decoder)
    return convolutions + sum(4 * i * o + o for i, o in ups) + classes * a + classes


REAL_COUNTS = {
    "mlp": 3072 * 512 + 512 + 512 * 512 + 512 + 512 * 10 + 10,
    "unet": unet_count(3, 2, (64, 128, 256, 512, 1024)),
    "vit_small": (
        (48 * 192 + 192)  # patches of 4×4 pixels of 3 channels
        + (192 + 65 * 192)  # the class token; positions of 8×8 patches and of it
        + 6 * (4 * (192 * 192 + 192) + (192 * 768 + 768) + (768 * 192 + 192) + 2 * 2 * 192)
        + 2 * 192
        + (192 * 10 + 10)
    ),
    "gru_classifier": 3 * (64 * 128 + 128 * 128 + 2 * 128) + 3 * (2 * 128 * 128 + 2 * 128) + 128 * 10 + 10,
}


@pytest.mark.parametrize(("name", "expected"), REAL_COUNTS.items())
def test_the_real_form_has_the_parameters_that_torchs_layers_have(name: str, expected: int) -> None:
    assert count(build(name, "real", device="meta")) == expected


def test_the_published_unet_has_its_31_million_parameters() -> None:
    assert REAL_COUNTS["unet"] == 31_037_698


# convolutions, linears and gate stacks of the default models
LAYERS = {"mlp": 2, "unet": 10 + 4 + 8, "vit_small": 1 + 6 * (4 + 2), "gru_classifier": 2 * 2}


@pytest.mark.parametrize("n", [2, 4, 8])
@pytest.mark.parametrize("name", SMALL)
def test_hypercomplex_weights_are_an_nth_of_the_real_ones(name: str, n: int) -> None:
    """What stays real is as large as before; each hypercomplex weight has a rule of n^3 besides."""
    channels = {} if name == "gru_classifier" else {"in_channels": 8}  # no zeros are put in front
    real, ph = (build(name, variant, device="meta", **channels) for variant in ("real", n))
    factors = [F for layer in hypercomplex(ph) for _, F in layer.factors()]
    assert len(factors) == LAYERS[name]
    replaced = sum(n * F.numel() for F in factors)
    assert count(ph) == count(real) - replaced + replaced // n + len(factors) * n**3
    assert replaced > 0.9 * count(real)


def test_width_scale_keeps_widths_that_fit() -> None:
    vit = build("vit_small", 4, width_scale=0.3, device="meta")  # 57.6 is nearest to 60 = 5 · 4 · 3
    assert (vit.conv_proj.out_channels, vit.encoder.layers[0].mlp[0].out_features) == (60, 232)
    unet = build("unet", 4, width_scale=0.1, device="meta")
    assert [block[3].out_channels for block in unet.encoder] == [8, 12, 24, 52, 104]
    assert build("gru_classifier", 4, width_scale=0.3, device="meta").gru.hidden_size == 40
    mlp = build("mlp", "real", width_scale=0.3, device="meta")
    assert [block[0].out_features for block in mlp.hidden] == [154, 154]


# ------------------------------------------------------------------------------------------------ refusals

MISFITS = [
    ("mlp", {"widths": (24, 16)}, r"n=3 does not divide widths\[1\]=16 \(nearest: 15 or 18\)"),
    ("unet", {"widths": (16, 24)}, r"n=3 does not divide widths\[0\]=16 \(nearest: 15 or 18\)"),
    ("vit_small", {"dim": 32, "heads": 2}, r"n=3 does not divide dim / heads=16 \(nearest: 15 or 18\)"),
    ("gru_classifier", {"hidden": 16}, r"n=3 does not divide hidden(_size)?=16 \(nearest: 15 or 18\)"),
]


@pytest.mark.parametrize(("name", "options", "message"), MISFITS)
def test_n_that_does_not_fit_is_refused_with_the_widths_that_fit(name: str, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(name, 3, **options)
    written = {k: "-".join(map(str, v)) if k == "widths" else v for k, v in options.items()}
    spec = find(name)
    with pytest.raises(ValueError, match=f"{name}: {message}"):
        spec.build({**spec.shape, **written}, algebra="ph", n=3)


@pytest.mark.parametrize(
    ("name", "shape", "reason"),
    [
        ("mlp", {"widths": "big"}, "widths='big' is not of the form 16-32-64"),
        ("unet", {"size": 15}, "size=15 cannot be halved 4 times: 16 is the least"),
        ("vit_small", {"size": 30}, "patch=4 does not divide size=30"),
        ("vit_small", {"heads": 5}, r"heads=5 does not divide dim=192 \(nearest: 190 or 195\)"),
    ],
)
def test_a_shape_that_cannot_be_is_skipped_with_its_reason(name: str, shape: Any, reason: str) -> None:
    spec = find(name)
    with pytest.raises(ValueError, match=reason):
        spec.build({**spec.shape, **shape}, algebra="quaternion")


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("mlp", (2, 3, 4, 5)), ("vit_small", (2, 3, 8, 12)), ("gru_classifier", (2, 5, 5))],
)
def test_an_input_of_another_size_is_refused(name: str, wrong: tuple[int, ...]) -> None:
    """Zeros stand in for channels that n needs, never for a part of the input that is missing."""
    model, _ = small(name, "quaternion")
    with pytest.raises(ValueError, match=r"not \(?\d"):
        model(torch.randn(wrong))


@pytest.mark.parametrize("name", ["vit_small", "gru_classifier"])
def test_rank_is_refused_where_a_layer_has_none(name: str) -> None:
    with pytest.raises(ValueError, match="rank=5: .* leave rank out"):
        small(name, 4, rank=5)


@pytest.mark.parametrize("name", ["mlp", "unet"])
def test_rank_reaches_every_layer(name: str) -> None:
    model, x = small(name, 4, rank=5)
    assert {layer.rank for layer in hypercomplex(model)} == {5}
    assert torch.isfinite(model(x)).all()


# ------------------------------------------------------------------------------------------ input channels


@pytest.mark.parametrize("name", SMALL)
def test_missing_channels_are_refused_on_request(name: str) -> None:
    options = {"size": 3} if name == "mlp" else {}  # 27 features
    with pytest.raises(ValueError, match=r"n=4 does not divide in_(channels|features)=\d+ .*pad='zero_first'"):
        small(name, 4, pad="error", **options)
    with pytest.raises(ValueError, match="unknown pad 'zeros'"):
        small(name, 4, pad="zeros", **options)


def test_the_first_layer_can_stay_real() -> None:
    assert type(small("mlp", 4, pad="real_stem", size=3)[0].hidden[0][0]) is nn.Linear
    assert type(small("unet", 4, pad="real_stem")[0].encoder[0][0]) is nn.Conv2d
    assert type(small("vit_small", 4, pad="real_stem")[0].conv_proj) is nn.Conv2d
    with pytest.raises(ValueError, match="pad='real_stem' has no meaning in a GRU"):
        small("gru_classifier", 4, pad="real_stem")


def test_the_first_layer_stays_hypercomplex_where_nothing_is_missing() -> None:
    assert isinstance(small("mlp", 4, pad="real_stem")[0].hidden[0][0], phnn.PHLinear)


@pytest.mark.parametrize("name", ["unet", "vit_small"])
def test_an_image_net_on_rgb_sees_a_zero_channel_before_it(name: str) -> None:
    model, x = small(name, "quaternion")
    four = torch.cat([torch.zeros_like(x[:, :1]), x], 1)
    assert torch.equal(model.eval()(x), model(four))


def test_zeros_go_in_front_of_any_dimension() -> None:
    x = torch.randn(2, 3, 5)
    assert zero_first(x, 4, dim=-1) is x
    assert torch.equal(zero_first(x, 8, dim=-1), torch.cat([torch.zeros(2, 3, 3), x], -1))
    assert torch.equal(zero_first(x, 4), torch.cat([torch.zeros(2, 1, 5), x], 1))


# -------------------------------------------------------------------------------- what each family computes


@pytest.mark.parametrize("training", [True, False])
def test_a_real_vit_computes_what_torchvisions_does(training: bool) -> None:
    import torchvision

    theirs = torchvision.models.VisionTransformer(32, 4, 6, 3, 192, 768, num_classes=10)
    nn.init.normal_(theirs.heads.head.weight)  # zero at the start
    ours = build("vit_small", "real")
    ours.load_state_dict(theirs.state_dict(), strict=True)
    ours.train(training), theirs.train(training)
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(ours(x), theirs(x))


def test_without_a_class_token_a_vit_classifies_the_mean_of_its_tokens() -> None:
    model, x = small("vit_small", 4, class_token=False)
    tokens: list[Tensor] = []
    model.encoder.register_forward_hook(lambda module, inputs, output: tokens.append(output))
    y = model(x)
    assert tokens[0].shape == (4, 2 * 2, 32)
    torch.testing.assert_close(y, model.heads(tokens[0].sum(1) / 4))


def test_a_perceptron_is_its_layers_in_turn() -> None:
    model, x = small("mlp", "quaternion")
    (first, _, _), (second, _, _) = model.hidden
    hidden = torch.relu(nn.functional.linear(x.flatten(1), first.weight, first.bias))
    hidden = torch.relu(nn.functional.linear(hidden, second.weight, second.bias))
    torch.testing.assert_close(model(x), model.fc(hidden))


def test_a_perceptron_takes_vectors() -> None:
    assert build("mlp", 4, in_channels=20, size=1, widths=(8,))(torch.randn(3, 20)).shape == (3, 10)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_a_sequence_is_classified_by_what_each_direction_ends_with(bidirectional: bool) -> None:
    model, x = small("gru_classifier", 4, in_channels=8, bidirectional=bidirectional)
    x = torch.randn(3, 5, 8)
    y, _ = model.gru(x)
    ends = torch.cat([y[:, -1, :16], y[:, 0, 16:]], -1)  # the backward direction ends at the first step
    assert torch.equal(model(x), model.fc(ends))


@pytest.mark.parametrize("size", [(8, 8), (9, 13), (4, 7)])
def test_a_unet_gives_each_pixel_its_scores_whatever_the_size(size: tuple[int, int]) -> None:
    model = build("unet", 4, widths=(8, 16, 24), num_classes=5)
    assert model(torch.randn(2, 3, *size)).shape == (2, 5, *size)


def test_a_unet_halves_and_doubles_the_side() -> None:
    model, x = small("unet", 2)
    seen: list[tuple[int, ...]] = []
    for block in (*model.encoder, *model.up, *model.decoder):
        block.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape[1:])))
    model(x)
    down, up = [(8, 8, 12), (16, 4, 6), (24, 2, 3)], [(16, 4, 6), (16, 4, 6), (8, 8, 12), (8, 8, 12)]
    assert seen == down + up


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_joined_channels_stay_component_major_in_their_layout(layout: torch.memory_format) -> None:
    a, b = (torch.randn(2, c, 3, 3).to(memory_format=layout) for c in (8, 4))
    joined = concatenated([a, b], 4)
    assert joined.is_contiguous(memory_format=layout)
    for k, component in enumerate(joined.chunk(4, 1)):
        assert torch.equal(component, torch.cat([a[:, 2 * k : 2 * k + 2], b[:, k : k + 1]], 1))
    assert torch.equal(concatenated([a, b], 1), torch.cat([a, b], 1))


def test_a_skip_is_a_hypercomplex_number_too() -> None:
    """A quaternion U-Net without what is not linear commutes with multiplying every pixel from the right."""
    model, _ = small("unet", "quaternion")
    for block in (*model.encoder, *model.decoder):
        for i in (1, 2, 4, 5):  # norms and ReLUs
            block[i] = nn.Identity()
    model.pool, model.head = nn.AvgPool2d(2), nn.Identity()
    for up in model.up:
        nn.init.zeros_(up.bias)
    x = torch.randn(1, 4, 8, 8)
    left, right = model(from_right(x)), from_right(model(x))
    assert (left - right).norm() <= tolerance("float32", "model") * right.norm()


def from_right(x: Tensor) -> Tensor:
    """Every quaternion of x (batch, component-major channels, …) times i, from the right."""
    r, i, j, k = x.chunk(4, 1)
    return torch.cat([-i, r, k, -j], 1)


# ------------------------------------------------------------------------------------- compiled and exported


@pytest.mark.parametrize("variant", ["real", 4])
@pytest.mark.parametrize("name", SMALL)
def test_a_model_compiles(name: str, variant: Any) -> None:
    torch._dynamo.reset()
    model, x = small(name, variant)
    model.eval()  # batch norm would update its statistics twice
    whole = (name, variant) != ("gru_classifier", "real")  # torch breaks the graph at its own nn.GRU
    compiled = torch.compile(model, fullgraph=whole, backend="aot_eager")
    expected, y = model(x), compiled(x)
    assert (y - expected).norm() <= tolerance("float32", "model") * expected.norm()
    y.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", ["real", 4])
@pytest.mark.parametrize("name", SMALL)
def test_a_model_exports(name: str, variant: Any) -> None:
    model, x = small(name, variant)
    program = torch.export.export(model.eval(), (x,))
    with torch.no_grad():
        expected = model(x)
        assert (program.module()(x) - expected).norm() <= tolerance("float32", "model") * expected.norm()


# ----------------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("variant", ["real", "quaternion", 4])
@pytest.mark.parametrize("name", ["mlp", "vit_small", "gru_classifier"])
def test_a_classifier_learns_thirty_two_samples_by_heart(name: str, variant: Any) -> None:
    model, _ = small(name, variant, num_classes=4)
    x = torch.randn(32, *SMALL[name][1][1:])
    labels = torch.arange(32) % 4
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()
    assert (model.eval()(x).argmax(1) == labels).all()


@pytest.mark.parametrize("variant", ["real", "quaternion", 4])
def test_a_unet_learns_to_mark_the_bright_pixels(variant: Any) -> None:
    model, x = small("unet", variant)
    labels = (x.mean(1) > 0).long()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()
    assert (model(x).argmax(1) == labels).float().mean() > 0.95


def test_the_factory_takes_the_same_keywords_for_every_layer() -> None:
    factory = LayerFactory("quaternion", path="dense", device="meta", dtype=torch.float64)
    made = [
        factory.conv_transpose2d(8, 4, 2),
        factory.attention(16, 2, batch_first=True),
        factory.gru(8, 4, bidirectional=True),
    ]
    for module in made:
        assert {(p.device.type, p.dtype) for p in module.parameters()} == {("meta", torch.float64)}
        assert {layer.path for layer in hypercomplex(module)} == {"dense"}
        assert all(layer.algebra.name == "quaternion" for layer in hypercomplex(module))
