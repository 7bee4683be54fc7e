"""The image sets; the downloadable ones on small files of their true format."""

from dataclasses import replace

import image_sets as write
import numpy as np
import pytest
import torch

from bench.errors import UsageError
from bench.study import tasks
from bench.study.catalog import DATA
from bench.study.tasks import images

WRITERS = {
    "cifar10": lambda root: write.cifar(root, "cifar10"),
    "cifar100": lambda root: write.cifar(root, "cifar100"),
    "svhn": write.svhn,
    "stl10": write.stl10,
    "mnist": lambda root: write.mnist(root, "mnist"),
    "fashion-mnist": lambda root: write.mnist(root, "fashion-mnist"),
}
CHECKED = ("cifar10", "cifar100", "svhn", "stl10")  # by the checksums of the published files


@pytest.fixture
def small(monkeypatch):
    """Let the small files pass for the published ones: their checksums and counts."""
    for module in ("cifar", "svhn", "stl10"):
        monkeypatch.setattr(f"torchvision.datasets.{module}.check_integrity", lambda *a: True)
    for name in [name for name in DATA if DATA[name].counts]:
        monkeypatch.setitem(DATA, name, replace(DATA[name], counts=(write.TRAIN, write.TEST)))


def pixels_of(part):
    """What was read from the file, out of what a net is shown."""
    x = part[torch.arange(len(part))][0]
    return ((x * part.look.std + part.look.mean) * 255).round().to(torch.uint8).numpy()


def rows(pixels):
    return sorted(p.tobytes() for p in pixels)


@pytest.mark.parametrize("name", WRITERS)
def test_a_set_is_read_from_its_own_format(name, tmp_path, small):
    (train, labels), (test, test_labels) = WRITERS[name](tmp_path)
    tasks.check(name, tmp_path, download=False)
    task = tasks.create(name)
    splits = task.splits(0, tmp_path)
    assert (pixels_of(splits.test) == test).all()
    assert splits.test.labels.tolist() == test_labels.tolist()
    assert rows(np.concatenate([pixels_of(splits.train), pixels_of(splits.val)])) == rows(train)
    by_image = {p.tobytes(): label for p, label in zip(train, labels, strict=True)}
    assert [by_image[p.tobytes()] for p in pixels_of(splits.val)] == splits.val.labels.tolist()
    assert tuple(splits.test[0][0].shape) == (task.shape["in_channels"], *[task.shape["size"]] * 2)
    assert splits.test.labels.max() < task.shape["num_classes"]


def test_the_published_test_part_is_the_same_for_every_seed_and_validation_is_not(tmp_path, small):
    WRITERS["cifar10"](tmp_path)
    a, b = (tasks.create("cifar10").splits(seed, tmp_path) for seed in (0, 1))
    assert a.test.labels.tolist() == b.test.labels.tolist()
    assert rows(pixels_of(a.val)) != rows(pixels_of(b.val))


@pytest.mark.parametrize("name", WRITERS)
def test_an_absent_set_is_one_line_with_the_remedy(name, tmp_path):
    message = rf"'{name}' is not whole in .*--download or another --data-root"
    with pytest.raises(UsageError, match=message) as error:
        tasks.check(name, tmp_path, download=False)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", CHECKED)
def test_files_with_other_checksums_are_not_used(name, tmp_path):
    WRITERS[name](tmp_path)
    with pytest.raises(UsageError, match="not whole"):
        tasks.check(name, tmp_path, download=False)


def test_a_set_without_checksums_is_held_to_its_number_of_images(tmp_path):
    WRITERS["mnist"](tmp_path)
    with pytest.raises(UsageError, match=r"not whole.*100 images and 100 labels in the training part, not 60000"):
        tasks.check("mnist", tmp_path, download=False)


def test_a_file_that_was_cut_off_is_not_used(tmp_path, small):
    WRITERS["mnist"](tmp_path)
    file = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UsageError, match="not whole"):
        tasks.check("mnist", tmp_path, download=False)


def test_a_download_that_fails_is_one_line(tmp_path, monkeypatch):
    def no_network(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", no_network)
    with pytest.raises(UsageError, match="'cifar10' could not be had in .*no route to host"):
        tasks.check("cifar10", tmp_path, download=True)


# ------------------------------------------------------------------------------------------------------ colour


def test_the_zero_channel_comes_first_and_stays_zero(tmp_path, small):
    WRITERS["cifar10"](tmp_path)
    plain, zero = (tasks.create(name).splits(0, tmp_path).val for name in ("cifar10", "cifar10-zero"))
    x, padded = plain[torch.arange(4)][0], zero[torch.arange(4)][0]
    assert padded.shape == (4, 4, 32, 32)
    assert not padded[:, 0].any()
    assert torch.equal(padded[:, 1:], x)


def test_the_grey_channel_comes_first_and_is_the_luma(tmp_path, small):
    WRITERS["cifar10"](tmp_path)
    part = tasks.create("cifar10-grey").splits(0, tmp_path).train
    x = part[torch.arange(len(part))][0] * part.look.std + part.look.mean
    assert x.shape[1] == 4
    red, green, blue = x[:, 1], x[:, 2], x[:, 3]
    assert torch.allclose(x[:, 0], 0.299 * red + 0.587 * green + 0.114 * blue, atol=1e-6)


@pytest.mark.parametrize("name", ["cifar10", "cifar10-grey"])
def test_each_channel_is_normalised_by_the_training_part_alone(name, tmp_path, small):
    WRITERS["cifar10"](tmp_path)
    splits = tasks.create(name).splits(0, tmp_path)
    x = splits.train[torch.arange(len(splits.train))][0]
    assert x.mean((0, 2, 3)).abs().max() < 1e-5
    assert torch.allclose(x.std((0, 2, 3)), torch.ones(x.shape[1]), atol=1e-3)
    assert (splits.test[torch.arange(len(splits.test))][0].mean((0, 2, 3)).abs() > 1e-5).all()


# ------------------------------------------------------------------------------------------------------- digits


def test_every_part_of_the_digits_has_its_share_of_every_class():
    splits = tasks.create("digits").splits(3, None)
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [1149, 288, 360]
    whole = sum(torch.bincount(part.labels, minlength=10) for part in (splits.train, splits.val, splits.test))
    for part in (splits.train, splits.val, splits.test):
        share = torch.bincount(part.labels, minlength=10) / whole
        assert (share - len(part) / 1797).abs().max() < 0.01


# ----------------------------------------------------------------------------------------------- augmentation


def test_a_shifted_image_is_the_image_moved_with_zeros_where_nothing_was():
    images_in = torch.arange(1.0, 1 + 50 * 2 * 6 * 6).reshape(50, 2, 6, 6)
    moved = images.shifted(images_in, 2, torch.Generator().manual_seed(0))
    seen = set()
    for before, after in zip(images_in, moved, strict=True):
        held = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if torch.equal(
                after, torch.nn.functional.pad(before, (2, 2, 2, 2))[:, 2 + down : 8 + down, 2 + right : 8 + right]
            )
        ]
        assert len(held) == 1
        seen.add(held[0])
    assert len(seen) > 12, "the shifts do not vary"


def test_digits_are_never_mirrored_and_photographs_are():
    x = torch.randn(64, 3, 32, 32)
    assert tasks.create("digits").augment(x, torch.Generator()) is x
    flipped = tasks.create("cifar10-grey").augment(x, torch.Generator().manual_seed(1))
    assert flipped.shape == x.shape
    repeat = tasks.create("cifar10-grey").augment(x, torch.Generator().manual_seed(1))
    assert torch.equal(flipped, repeat)


# ------------------------------------------------------------------------------------------------- image folders

AXES = {"size": 8, "num_classes": 2}


def test_a_folder_without_parts_is_split_whole_and_stratified(tmp_path):
    write.folder(tmp_path)
    tasks.check("imagefolder", tmp_path, download=False)
    splits = tasks.create("imagefolder", AXES).splits(0, tmp_path)
    files = [{file for file, _ in part.files} for part in (splits.train, splits.val, splits.test)]
    assert len(set.union(*files)) == sum(map(len, files)) == 20
    assert [sorted(label for _, label in part.files) for part in (splits.val, splits.test)] == [
        [0, 0, 1, 1],
        [0, 0, 1, 1],
    ]
    x, y = splits.train[torch.tensor([0, 3])]
    assert x.shape == (2, 3, 8, 8)
    assert y.dtype == torch.int64


def test_a_folder_with_parts_keeps_its_test_part(tmp_path):
    write.folder(tmp_path / "train")
    write.folder(tmp_path / "test", each=3)
    splits = tasks.create("imagefolder-grey", AXES).splits(0, tmp_path)
    assert len(splits.test) == 6
    assert all("/test/" in file for file, _ in splits.test.files)
    assert splits.test[0][0].shape == (4, 8, 8)


def test_a_folder_of_other_classes_than_asked_for_is_refused(tmp_path):
    write.folder(tmp_path)
    with pytest.raises(UsageError, match="holds 2 classes, not num_classes=3"):
        tasks.create("imagefolder", {**AXES, "num_classes": 3}).splits(0, tmp_path)
    with pytest.raises(UsageError, match="of any size and num_classes"):
        tasks.create("imagefolder")
    with pytest.raises(UsageError, match="nothing to --download"):
        tasks.check("imagefolder", tmp_path, download=True)


def test_a_class_of_one_image_cannot_be_split_and_a_broken_image_is_named(tmp_path):
    write.folder(tmp_path / "one", each=1)
    with pytest.raises(UsageError, match="cannot be split"):
        tasks.create("imagefolder", AXES).splits(0, tmp_path / "one")
    write.folder(tmp_path / "two")
    (tmp_path / "two" / "cat" / "3.png").write_bytes(b"no image")
    broken = images.Files([(str(tmp_path / "two" / "cat" / "3.png"), 0)], 8, None)
    with pytest.raises(UsageError, match=r"3\.png cannot be read as an image"):
        broken[0]
