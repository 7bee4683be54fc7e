import torch

from bench.study import tasks
from bench.study.tasks.sequences import temporal_order


def test_the_class_is_the_order_of_the_two_symbols_that_matter():
    x, y = temporal_order(400, torch.Generator().manual_seed(0))
    symbols = x.argmax(-1)
    assert (x.sum(-1) == 1).all()
    for sequence, label in zip(symbols, y, strict=True):
        found = ((sequence == 2) | (sequence == 3)).nonzero().flatten()
        assert len(found) == 2
        assert 4 <= found[0] < 8
        assert 18 <= found[1] < 22
        first, second = (int(sequence[at]) - 2 for at in found)
        assert label == 2 * first + second
        assert (sequence[0], sequence[-1]) == (0, 1)
    assert torch.bincount(y).tolist() == [100] * 4


def test_the_grid_reads_row_by_row_as_the_sequence():
    flat, grid = (tasks.create(name).splits(0, None).val for name in ("temporal-order", "temporal-order-grid"))
    x, image = flat[5][0], grid[5][0]
    assert image.shape == (8, 6, 6)
    assert torch.equal(image[:, 3, 2], x[3 * 6 + 2])


def test_rows_of_digits_are_the_digits():
    rows, digits = (tasks.create(name).splits(2, None).test for name in ("digits-rows", "digits"))
    assert torch.equal(rows[3][1], digits[3][1])
    x, image = rows[3][0], digits[3][0][0]
    assert torch.allclose((x - x.mean()) / x.std(), (image - image.mean()) / image.std(), atol=1e-5)
