"""Images in classes: the bundled digits, torchvision's sets, and any folder of images.

Training and validation parts come from the published training part, the test part is the published one; digits, and a
folder without parts, are split whole. Pixels are normalised channel by channel by the training part alone.

Colour has three named forms. A set as it is called gives RGB; ``-zero`` puts a channel of zeros before it, and
``-grey`` the luma 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601): a quaternion with RGB as its imaginary parts. Source:
Gaudet and Maida, *Deep quaternion networks*, 2018; Grassucci et al. 2022.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as nnf
from torch.utils.data import Dataset

from ...errors import UsageError
from ..catalog import DATA
from ..task import Splits, StudyTask
from ._classes import Classification, stratified

Pixels = NDArray[np.uint8]  # (count, 3 or 1, size, size)
Labels = NDArray[np.int64]

_TEST, _VAL = 0.2, 0.2  # of a set without a published test part; of what is not tested
_VAL_OF_LARGE = 0.1  # of a published training part: they are large enough
_LUMA = torch.tensor([0.299, 0.587, 0.114]).reshape(3, 1, 1)
_FLIPPED = ("cifar10", "cifar100", "stl10", "imagefolder")  # a mirrored digit is another or none
_SHIFTED = (*_FLIPPED, "svhn")
_SAMPLE = 512  # images of a folder whose mean and deviation stand for all


def create(name: str, axes: Mapping[str, Any]) -> StudyTask:
    return Images(name, axes)


def check(name: str, root: Path | None, download: bool) -> None:
    source = _source(name)
    if source == "imagefolder":
        assert root is not None
        if download:
            raise UsageError(f"data {name!r} is a folder of your own: there is nothing to --download")
        _folders(name, root)
    elif source != "digits":
        assert root is not None
        for train in (True, False):
            _read(name, root, train=train, download=download)


class Images(Classification):
    """Images (channels, size, size), float32, in ``num_classes`` classes."""

    def __init__(self, name: str, axes: Mapping[str, Any] | None = None) -> None:
        super().__init__(name, axes)
        missing = [axis for axis in ("size", "num_classes") if axis not in self.shape]
        if missing:
            raise UsageError(f"data {name!r} is of any {' and '.join(missing)}: give the sweep such an axis")

    def splits(self, seed: int, root: Path | None) -> Splits:
        if root is None and not DATA[self.name].bundled:
            raise UsageError(f"data {self.name!r} is not bundled: {DATA[self.name].remedy}")
        if _source(self.name) == "imagefolder":
            assert root is not None
            return self._folder_splits(seed, root)
        if root is None or _source(self.name) == "digits":
            pixels, labels = digits()
            rest, test = stratified(labels, _TEST, seed, self.name)
            test_pixels, test_labels = pixels[test], labels[test]
            pixels, labels, share = pixels[rest], labels[rest], _VAL
        else:
            pixels, labels = _read(self.name, root, train=True, download=False)
            test_pixels, test_labels = _read(self.name, root, train=False, download=False)
            share = _VAL_OF_LARGE
        train, val = stratified(labels, share, seed, self.name)
        look = Look.fitted(_colour(self.name), torch.from_numpy(pixels[train]))
        return Splits(
            Shown(pixels[train], labels[train], look),
            Shown(pixels[val], labels[val], look),
            Shown(test_pixels, test_labels, look),
            resampled=_source(self.name) == "digits",
        )

    def augment(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        source = _source(self.name)
        if source in _SHIFTED:
            inputs = shifted(inputs, inputs.shape[-1] // 8, generator)
        if source in _FLIPPED:
            flip = torch.rand(len(inputs), generator=generator) < 0.5
            inputs = torch.where(flip.to(inputs.device).reshape(-1, 1, 1, 1), inputs.flip(-1), inputs)
        return inputs

    def _folder_splits(self, seed: int, root: Path) -> Splits:
        found = _folders(self.name, root)
        train, test = found["train"], found.get("test")
        if (classes := len(train.classes)) != self.shape["num_classes"]:
            raise UsageError(
                f"data {self.name!r}: {root} holds {classes} classes, not num_classes={self.shape['num_classes']}: "
                "set the sweep's axis num_classes"
            )
        labels = np.asarray(train.targets)
        if test is None:
            rest, tested = stratified(labels, _TEST, seed, self.name)
            test_files = [train.samples[i] for i in tested]
        else:
            rest, test_files = np.arange(len(labels)), test.samples
        within, val = stratified(labels[rest], _VAL, seed, self.name)
        files = [train.samples[i] for i in rest[within]]
        size = self.shape["size"]
        picked = np.random.default_rng(seed).permutation(len(files))[:_SAMPLE]
        sample = torch.stack([_opened(files[i][0], size) for i in picked])
        look = Look.fitted(_colour(self.name), sample)
        return Splits(
            Files(files, size, look), Files([train.samples[i] for i in rest[val]], size, look),
            Files(test_files, size, look), resampled=test is None,
        )  # fmt: skip


def _source(name: str) -> str:
    return name.removesuffix("-zero").removesuffix("-grey")


def _colour(name: str) -> str:
    return name.removeprefix(_source(name)).removeprefix("-") or "plain"


# ------------------------------------------------------------------------------------------------------- pixels


@dataclass(frozen=True)
class Look:
    """How pixels become inputs: (x / 255 - mean) / std for each channel, with what ``colour`` puts before RGB."""

    colour: str  # plain, zero, grey
    mean: Tensor
    std: Tensor

    @classmethod
    def fitted(cls, colour: str, pixels: Tensor) -> Look:
        """Mean and deviation of these pixels (count, channels, size, size), piece by piece: floats take much room."""
        total, squares, count = torch.zeros(1), torch.zeros(1), 0
        for piece in pixels.split(1024):
            x = _mixed(colour, piece).double()
            total = total + x.sum((0, 2, 3))
            squares = squares + x.square().sum((0, 2, 3))
            count += x.shape[0] * x.shape[2] * x.shape[3]
        mean = total / count
        std = (squares / count - mean.square()).clamp_min(1e-12).sqrt()
        return cls(colour, *(t.float().reshape(-1, 1, 1) for t in (mean, std)))

    def __call__(self, pixels: Tensor) -> Tensor:
        """uint8 (…, channels, size, size) as float32, normalised."""
        x = (_mixed(self.colour, pixels) - self.mean) / self.std
        return nnf.pad(x, (0, 0, 0, 0, 1, 0)) if self.colour == "zero" else x


def _mixed(colour: str, pixels: Tensor) -> Tensor:
    x = pixels.float() / 255
    if colour != "grey":
        return x
    return torch.cat([(x * _LUMA).sum(-3, keepdim=True), x], -3)


class Shown(Dataset[tuple[Tensor, Tensor]]):
    """Images in memory, kept as bytes and normalised as they are taken."""

    def __init__(self, pixels: Pixels, labels: Labels, look: Look) -> None:
        self.pixels, self.look = torch.from_numpy(pixels), look
        self.labels = torch.from_numpy(labels)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Any) -> tuple[Tensor, Tensor]:
        return self.look(self.pixels[index]), self.labels[index]


class Files(Dataset[tuple[Tensor, Tensor]]):
    """Images on disk, (file, class) each, read as they are taken."""

    def __init__(self, files: list[tuple[str, int]], size: int, look: Look) -> None:
        self.files, self.size, self.look = files, size, look

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: Any) -> tuple[Tensor, Tensor]:
        if isinstance(index, Tensor) and index.dim():
            images, labels = zip(*(self[int(i)] for i in index), strict=True)
            return torch.stack(images), torch.stack(labels)
        file, label = self.files[int(index)]
        return self.look(_opened(file, self.size)), torch.tensor(label)


def shifted(images: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Each image moved by up to ``most`` pixels in both directions, zeros where nothing was.

    Zero is the mean of each channel. Source: the crops of He et al. 2016.
    """
    count, _, height, width = images.shape
    offsets = torch.randint(0, 2 * most + 1, (2, count, 1), generator=generator).to(images.device)
    rows = offsets[0] + torch.arange(height, device=images.device)  # (count, height)
    columns = offsets[1] + torch.arange(width, device=images.device)
    padded = nnf.pad(images, (most,) * 4).permute(0, 2, 3, 1)
    numbers = torch.arange(count, device=images.device).reshape(-1, 1, 1)
    return padded[numbers, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


# ------------------------------------------------------------------------------------------------------ sources


def digits() -> tuple[Pixels, Labels]:
    """scikit-learn's digits: their 17 shades as bytes, and their classes."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return (images * 15).astype(np.uint8).reshape(-1, 1, 8, 8), labels.astype(np.int64)


def _read(name: str, root: Path, *, train: bool, download: bool) -> tuple[Pixels, Labels]:
    """One published part of a set of torchvision's, held to its checksums and to its number of examples."""
    try:
        pixels, labels = _READERS[_source(name)](str(root), train, download)
    # torchvision's: absent or corrupt; the others: files of a set without checksums that are cut off or another's
    except (RuntimeError, ValueError, TypeError, AssertionError, EOFError) as error:
        problem = (str(error) or type(error).__name__).splitlines()[0]
        raise _not_whole(name, root, problem) from None
    except OSError as error:
        raise UsageError(f"data {name!r} could not be had in {root}: {error}") from None
    counts = DATA[name].counts
    assert counts is not None
    if len(pixels) != (expected := counts[0 if train else 1]) or len(labels) != expected:
        part = "training" if train else "test"
        raise _not_whole(
            name, root, f"{len(pixels)} images and {len(labels)} labels in the {part} part, not {expected}"
        )
    return np.ascontiguousarray(pixels, np.uint8), np.asarray(labels, np.int64)


def _not_whole(name: str, root: Path, problem: str) -> UsageError:
    return UsageError(f"data {name!r} is not whole in {root}, use --download or another --data-root: {problem}")


_Reader = Callable[[str, bool, bool], tuple[Any, Any]]


def _cifar(kind: str) -> _Reader:
    def read(root: str, train: bool, download: bool) -> tuple[Any, Any]:
        from torchvision import datasets

        found = getattr(datasets, kind)(root, train=train, download=download)
        return np.asarray(found.data).transpose(0, 3, 1, 2), found.targets

    return read


def _parted(kind: str) -> _Reader:
    def read(root: str, train: bool, download: bool) -> tuple[Any, Any]:
        from torchvision import datasets

        found = getattr(datasets, kind)(root, split="train" if train else "test", download=download)
        return found.data, found.labels

    return read


def _mnist(kind: str) -> _Reader:
    def read(root: str, train: bool, download: bool) -> tuple[Any, Any]:
        from torchvision import datasets

        found = getattr(datasets, kind)(root, train=train, download=download)
        return found.data.numpy()[:, None], found.targets.numpy()

    return read


_READERS: dict[str, _Reader] = {
    "cifar10": _cifar("CIFAR10"),
    "cifar100": _cifar("CIFAR100"),
    "svhn": _parted("SVHN"),
    "stl10": _parted("STL10"),
    "mnist": _mnist("MNIST"),
    "fashion-mnist": _mnist("FashionMNIST"),
}


def _folders(name: str, root: Path) -> dict[str, Any]:
    """The training part of a folder of images, and its test part where it has one."""
    from torchvision.datasets import ImageFolder

    parts = {part: root / part for part in ("train", "test") if (root / part).is_dir()}
    if set(parts) != {"train", "test"}:
        parts = {"train": root}
    try:
        found = {part: ImageFolder(str(folder)) for part, folder in parts.items()}
    except (OSError, ValueError) as error:  # no folder of a class, or a class without an image
        problem = str(error).splitlines()[0]
        raise UsageError(f"data {name!r} is not in {root}: {problem}; {DATA[name].remedy}") from None
    if "test" in found and found["test"].classes != found["train"].classes:
        raise UsageError(f"data {name!r}: {root}/train and {root}/test hold other classes: name them alike")
    return found


def _opened(file: str, size: int) -> Tensor:
    """The middle of an image whose shorter side is scaled to ``size``, as bytes (3, size, size)."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            square = ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.BILINEAR)
    except (UnidentifiedImageError, OSError) as error:
        raise UsageError(f"{file} cannot be read as an image: {error}") from None
    return torch.from_numpy(np.asarray(square).transpose(2, 0, 1).copy())
