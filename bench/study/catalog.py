"""The tasks by name, with what a sweep must know of them before any is loaded. No torch."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class DataInfo:
    """One task of the accuracy study.

    family: its file in ``tasks/``; shape: the shape axes that the data decide; bundled: comes with an installed
    package or is made from the seed, nothing to download; remedy: what to do where it is not; kind: of the subjects
    that it trains, ``model`` or ``layer``; metrics: what it measures, the first being what choices are made by;
    counts: examples in the published training and test parts, where the files are held to them; extra: the extra of
    this package that it needs.
    """

    family: str
    shape: dict[str, Any]
    metrics: tuple[str, ...]
    info: str
    bundled: bool = True
    remedy: str = ""
    kind: str = "model"
    counts: tuple[int, int] | None = None
    extra: str = ""


_FETCH = "name its folder with --data-root, and --download to fetch it"
_COLOURS = {
    "": "",
    "-zero": ", a zero channel before RGB",
    "-grey": ", a channel of grey before RGB",
}


def _images(channels: int, size: int, classes: int, info: str, counts: tuple[int, int] | None = None) -> DataInfo:
    shape = {"in_channels": channels, "size": size, "num_classes": classes}
    remedy = _FETCH if counts else ""
    return DataInfo("images", shape, ("accuracy",), info, bundled=not counts, remedy=remedy, counts=counts)


def _coloured(name: str, size: int, classes: int, info: str, counts: tuple[int, int]) -> dict[str, DataInfo]:
    """One set of colour images with each of the ways to show them: a quaternion takes four channels."""
    return {
        name + suffix: _images(4 if suffix else 3, size, classes, info + how, counts)
        for suffix, how in _COLOURS.items()
    }


def _folder(channels: int, how: str) -> DataInfo:
    info = f"any folder of images, one folder a class; size and num_classes are the sweep's axes{how}"
    remedy = "name it with --data-root: ROOT/<class>/*.png, or ROOT/train/<class>/ and ROOT/test/<class>/"
    return DataInfo("images", {"in_channels": channels}, ("accuracy",), info, bundled=False, remedy=remedy)


_SOUND = ("sed_score", "error_rate", "f_score", "precision", "recall")
_L3DAS = "name the folder that holds L3DAS_Task2_train and L3DAS_Task2_dev with --data-root (zenodo 4642005)"


def _sounds(channels: int, how: str) -> DataInfo:
    shape = {"in_channels": channels, "bins": 128, "frames": 160, "num_classes": 6, "overlaps": 2}
    return DataInfo("sound_events", shape, _SOUND, f"made sound events, first-order ambisonics, clips of 2 s{how}")


def _l3das21(channels: int, how: str) -> DataInfo:
    shape = {"in_channels": channels, "bins": 256, "frames": 4800, "num_classes": 14, "overlaps": 3}
    info = f"L3DAS21 Task 2: office sounds in 900 recordings of 60 s{how}"
    return DataInfo("sound_events", shape, _SOUND, info, bundled=False, remedy=_L3DAS)


def _sequences(shape: dict[str, Any], info: str) -> DataInfo:
    return DataInfo("sequences", shape, ("accuracy",), info)


_LINEAR = {"channels": 32, "out_channels": 32}
_CONV = {"channels": 16, "out_channels": 16, "size": 8, "kernel_size": 3, "stride": 1, "groups": 1}
_VECTORS = {"in_channels": 4, "size": 1, "num_classes": 4}
_RULE = ("mse", "rule_distance")

DATA: dict[str, DataInfo] = {
    "digits": _images(1, 8, 10, "scikit-learn's handwritten digits: 1,797 images of 8×8"),
    **_coloured("cifar10", 32, 10, "CIFAR-10: 60,000 colour images of 32×32", (50_000, 10_000)),
    **_coloured("cifar100", 32, 100, "CIFAR-100: the same size, 100 classes", (50_000, 10_000)),
    **_coloured("svhn", 32, 10, "Street View House Numbers: 99,289 colour images of 32×32", (73_257, 26_032)),
    **_coloured("stl10", 96, 10, "STL-10: 13,000 labelled colour images of 96×96", (5_000, 8_000)),
    "mnist": _images(1, 28, 10, "MNIST: 70,000 handwritten digits of 28×28", (60_000, 10_000)),
    "fashion-mnist": _images(1, 28, 10, "Fashion-MNIST: 70,000 garments of 28×28", (60_000, 10_000)),
    "imagefolder": _folder(3, ""),
    "imagefolder-zero": _folder(4, _COLOURS["-zero"]),
    "imagefolder-grey": _folder(4, _COLOURS["-grey"]),
    "sounds": _sounds(4, ""),
    "sounds-phase": _sounds(8, ", with phases"),
    "sounds-room": replace(_sounds(4, ", in rooms (pip install 'phnn-bench[audio]')"), extra="audio"),
    "l3das21": _l3das21(4, ""),
    "l3das21-phase": _l3das21(8, ", with phases"),
    "l3das21-2mics": _l3das21(8, ", two microphones"),
    "l3das21-2mics-phase": _l3das21(16, ", two microphones with phases"),
    "hamilton": DataInfo("algebra", _LINEAR, _RULE, "the Hamilton product, to be learned from data", kind="layer"),
    "hamilton-conv": DataInfo("algebra", _CONV, _RULE, "a Hamilton convolution, likewise", kind="layer"),
    "toy-line": DataInfo("algebra", _VECTORS, ("mse",), "y = 2x + 2 in each of four features"),
    "toy-square": DataInfo("algebra", _VECTORS, ("mse",), "y = x² + noise in each of four features"),
    "digits-rows": _sequences(
        {"length": 8, "in_channels": 8, "num_classes": 10}, "the digits, one row of 8 pixels a step"
    ),
    "temporal-order": _sequences(
        {"length": 36, "in_channels": 8, "num_classes": 4},
        "36 symbols, two of which matter: which came first (Hochreiter and Schmidhuber 1997)",
    ),
    "temporal-order-grid": _sequences(
        {"in_channels": 8, "size": 6, "num_classes": 4}, "the same as a 6×6 image for vision transformers, patch=1"
    ),
}

OWN_METRICS = frozenset(metric for info in DATA.values() for metric in info.metrics)  # those not of every training


def misfit(name: str, subject: str, kind: str, axes: Collection[str], metrics: Collection[str]) -> str | None:
    """Why a subject cannot be trained on these data, or not measured so; None if it can."""
    info = DATA[name]
    if kind != info.kind:
        return f"{subject!r} is a {kind}, and data {name!r} train a {info.kind}"
    if lacking := [axis for axis in info.shape if axis not in axes]:
        return f"{subject!r} has no axis {lacking[0]}, which data {name!r} decide"
    if strange := sorted(OWN_METRICS.intersection(metrics).difference(info.metrics)):
        return f"data {name!r} have no metric {strange[0]!r}, only {', '.join(info.metrics)}"
    return None
