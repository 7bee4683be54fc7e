import pickle

import numpy as np
import pytest
import torch

import phnn
from bench.errors import UsageError
from bench.study import data
from bench.study.recipe import Recipe
from bench.study.train import accuracy, learning_rate, train


def test_digits_are_split_apart_and_stratified():
    split = data.load("digits", seed=3)
    assert split.train_x.shape == (1437, 1, 8, 8)
    assert split.test_x.shape == (360, 1, 8, 8)
    rows = {tuple(x.flatten().tolist()) for x in split.train_x}
    assert not any(tuple(x.flatten().tolist()) in rows for x in split.test_x), "an image is in both parts"
    share = torch.bincount(split.test_y, minlength=10) / torch.bincount(split.train_y, minlength=10)
    assert (share - 0.25).abs().max() < 0.02


def test_images_are_normalised_by_the_training_part_alone():
    split = data.load("digits", seed=0)
    assert split.train_x.mean().abs() < 1e-5
    assert split.train_x.std() == pytest.approx(1.0, abs=1e-3)
    assert split.test_x.mean() != 0


def test_the_split_follows_the_seed():
    a, b, c = (data.load("digits", seed=s) for s in (1, 1, 2))
    assert torch.equal(a.test_x, b.test_x)
    assert not torch.equal(a.test_y, c.test_y)


def small_net(seed=0, **algebra):
    torch.manual_seed(seed)
    return phnn.create_model("resnet8", in_channels=1, widths=(4, 8, 8), **(algebra or {"algebra": "real"}))


def test_training_learns_and_repeats_bit_for_bit():
    split, recipe = data.load("digits", seed=0), Recipe(epochs=2, batch_size=64, lr=0.1)
    nets = [small_net(algebra="quaternion") for _ in range(2)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        outcomes = [train(net, split, recipe, seed=5) for net in nets]
    finally:
        torch.set_num_threads(threads)
    assert outcomes[0].accuracy == outcomes[1].accuracy > 0.6
    assert outcomes[0].losses == outcomes[1].losses
    assert outcomes[0].losses[1] < outcomes[0].losses[0]
    assert all(torch.equal(p, q) for p, q in zip(nets[0].parameters(), nets[1].parameters(), strict=True))


def test_another_seed_orders_the_images_differently():
    split, recipe = data.load("digits", seed=0), Recipe(epochs=1, batch_size=256, lr=0.05)
    losses = {train(small_net(), split, recipe, seed=seed).losses for seed in (0, 1)}
    assert len(losses) == 2


def test_a_diverging_training_is_an_error_not_a_number():
    split = data.load("digits", seed=0)
    with pytest.raises(FloatingPointError, match="lower the recipe's lr"):
        train(small_net(), split, Recipe(epochs=3, lr=1e18, warmup=0.0), seed=0)


def test_accuracy_is_the_share_of_right_answers():
    class Says(torch.nn.Module):
        def forward(self, x):
            return torch.nn.functional.one_hot(x.flatten().long(), 4).float()

    x, y = torch.tensor([0, 1, 2, 3]).reshape(4, 1), torch.tensor([0, 1, 3, 3])
    assert accuracy(Says(), x, y, batch_size=3) == 0.75


def test_the_learning_rate_warms_up_peaks_and_falls_to_zero():
    recipe = Recipe(lr=0.4, warmup=0.1)
    rates = [learning_rate(recipe, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.04)
    assert max(rates) == rates[9] == rates[10] == 0.4
    assert rates[55] == pytest.approx(0.2)
    assert rates[99] < 1e-3
    assert learning_rate(Recipe(lr=0.4, schedule="constant", warmup=0), 70, 100) == 0.4


# ------------------------------------------------- the downloadable sets, on small files of their true format


def write_cifar10(root):
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, count in [(f"data_batch_{i}", 4) for i in range(1, 6)] + [("test_batch", 6)]:
        pixels = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": pixels, "labels": [i % 10 for i in range(count)]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [str(i) for i in range(10)]}))


def test_cifar10_is_read_from_its_own_format(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR10

    write_cifar10(tmp_path)
    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)  # the real files' checksums
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *a: True)
    split = data.load("cifar10", 0, tmp_path)
    assert split.train_x.shape == (20, 3, 32, 32)
    assert split.test_y.tolist() == [0, 1, 2, 3, 4, 5]
    assert split.train_x.mean(dim=(0, 2, 3)).abs().max() < 1e-4


def test_an_absent_data_set_is_one_line_with_the_remedy(tmp_path):
    with pytest.raises(UsageError, match=r"'cifar10' is not whole in .*--download or another --data-root") as error:
        data.check("cifar10", tmp_path, download=False)
    assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="'svhn' is not bundled.*--data-root"):
        data.check("svhn", None, download=False)
    data.check("digits", None, download=False)


def test_a_damaged_data_set_is_not_used(tmp_path):
    """Files of the right name and format whose checksums are not the published ones."""
    write_cifar10(tmp_path)
    with pytest.raises(UsageError, match="not whole"):
        data.check("cifar10", tmp_path, download=False)
