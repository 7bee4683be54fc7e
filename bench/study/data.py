"""Image data as tensors: bundled digits, or torchvision's sets from a folder that the user names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import UsageError
from .catalog import DATA


@dataclass(frozen=True)
class Split:
    """Images (count, channels, size, size), float32, normalised by the training images; labels (count,)."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


def check(name: str, root: Path | None, download: bool) -> None:
    """Make sure that a data set is at hand before anything is measured; a UsageError names the remedy."""
    if DATA[name].bundled:
        return
    if root is None:
        raise UsageError(
            f"data {name!r} is not bundled: name its folder with --data-root, and --download to fetch it"
        )
    _torchvision(name, root, train=True, download=download)


def load(name: str, seed: int, root: Path | None = None) -> Split:
    """The data set, split and normalised. digits: a stratified fifth is the test set, drawn by ``seed``."""
    if name == "digits":
        train_x, train_y, test_x, test_y = _digits(seed)
    else:
        if root is None:
            raise UsageError(f"data {name!r} is not bundled: name its folder with --data-root")
        train_x, train_y = _torchvision(name, root, train=True, download=False)
        test_x, test_y = _torchvision(name, root, train=False, download=False)
    mean = train_x.mean(dim=(0, 2, 3), keepdim=True)
    std = train_x.std(dim=(0, 2, 3), keepdim=True)
    return Split((train_x - mean) / std, train_y, (test_x - mean) / std, test_y)


def _digits(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    pieces = train_test_split(images, labels, test_size=0.2, stratify=labels, random_state=seed)
    train_x, test_x = (torch.tensor(x, dtype=torch.float32).reshape(-1, 1, 8, 8) for x in pieces[:2])
    train_y, test_y = (torch.tensor(y, dtype=torch.int64) for y in pieces[2:])
    return train_x, train_y, test_x, test_y


def _torchvision(name: str, root: Path, *, train: bool, download: bool) -> tuple[Tensor, Tensor]:
    from torchvision import datasets

    part = "train" if train else "test"
    try:
        if name == "svhn":
            found = datasets.SVHN(str(root), split=part, download=download)
            images, labels = found.data, found.labels  # (count, 3, 32, 32)
        else:
            kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
            found = kind(str(root), train=train, download=download)
            images, labels = np.asarray(found.data).transpose(0, 3, 1, 2), found.targets
    except RuntimeError as error:  # torchvision: absent or corrupt
        raise UsageError(
            f"data {name!r} is not whole in {root}, use --download or another --data-root: {_first_line(error)}"
        ) from None
    except OSError as error:
        raise UsageError(f"data {name!r} could not be had in {root}: {error}") from None
    return torch.tensor(images, dtype=torch.float32) / 255, torch.tensor(labels, dtype=torch.int64)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
