"""Small image sets in the very format of the published ones, as a test writes them."""

import pickle
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

TRAIN, TEST = 100, 10  # images; as many of each of ten classes in each part


def drawn(channels: int, size: int, count: int, seed: int):
    """Pixels (count, channels, size, size) and their classes."""
    pixels = np.random.default_rng(seed).integers(0, 256, (count, channels, size, size), dtype=np.uint8)
    return pixels, np.arange(count) % 10


def cifar(root: Path, kind: str):
    train, test = drawn(3, 32, TRAIN, 0), drawn(3, 32, TEST, 1)
    folder = root / {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}[kind]
    folder.mkdir()
    key = "labels" if kind == "cifar10" else "fine_labels"

    def write(name, pixels, labels):
        batch = {"data": pixels.reshape(len(pixels), -1), key: labels.tolist()}
        (folder / name).write_bytes(pickle.dumps(batch))

    if kind == "cifar10":
        for i in range(5):
            part = slice(i * TRAIN // 5, (i + 1) * TRAIN // 5)
            write(f"data_batch_{i + 1}", train[0][part], train[1][part])
        write("test_batch", *test)
        (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [str(i) for i in range(10)]}))
    else:
        write("train", *train)
        write("test", *test)
        (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [str(i) for i in range(100)]}))
    return train, test


def svhn(root: Path):
    train, test = drawn(3, 32, TRAIN, 0), drawn(3, 32, TEST, 1)
    for name, (pixels, labels) in (("train", train), ("test", test)):
        shown = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]  # the files call the digit 0 ten
        savemat(root / f"{name}_32x32.mat", {"X": pixels.transpose(2, 3, 1, 0), "y": shown})
    return train, test


def stl10(root: Path):
    train, test = drawn(3, 96, TRAIN, 0), drawn(3, 96, TEST, 1)
    folder = root / "stl10_binary"
    folder.mkdir()
    for name, (pixels, labels) in (("train", train), ("test", test)):
        pixels.transpose(0, 1, 3, 2).tofile(folder / f"{name}_X.bin")  # column by column
        (labels + 1).astype(np.uint8).tofile(folder / f"{name}_y.bin")
    return train, test


def mnist(root: Path, kind: str):
    train, test = drawn(1, 28, TRAIN, 0), drawn(1, 28, TEST, 1)
    folder = root / {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}[kind] / "raw"
    folder.mkdir(parents=True)
    for name, (pixels, labels) in (("train", train), ("t10k", test)):
        for what, values in (("images-idx3", pixels[:, 0]), ("labels-idx1", labels.astype(np.uint8))):
            sizes = b"".join(int(side).to_bytes(4, "big") for side in values.shape)
            content = bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes()
            (folder / f"{name}-{what}-ubyte").write_bytes(content)
    return train, test


def folder(root: Path, classes=("cat", "dog"), each: int = 10, size=(12, 9)):
    rng = np.random.default_rng(0)
    for name in classes:
        (root / name).mkdir(parents=True)
        for i in range(each):
            pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
