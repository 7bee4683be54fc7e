"""A task of seconds: three clouds of points told apart; and a net with dropout for it. Importable by spawned processes."""

import torch
import torchmetrics
from torch import nn
from torch.nn import functional as nnf
from torch.utils.data import TensorDataset

from bench.study.task import Splits


class Clouds:
    """Points of three overlapping clouds in 8 dimensions, 100 for training."""

    name, monitor, higher = "clouds", "accuracy", True

    def __init__(self, spread=1.0, count=100):
        self.spread, self.count = spread, count
        self.shape = {"in_channels": 8, "num_classes": 3}

    def splits(self, seed, root):
        generator = torch.Generator().manual_seed(seed)
        centres = torch.randn(3, 8, generator=generator)

        def part(count):
            y = torch.randint(3, (count,), generator=generator)
            return TensorDataset(centres[y] + self.spread * torch.randn(count, 8, generator=generator), y)

        return Splits(part(self.count), part(60), part(60))

    def augment(self, inputs, generator):
        return inputs + 0.05 * torch.randn(inputs.shape, generator=generator)

    def loss(self, outputs, targets):
        return nnf.cross_entropy(outputs.float(), targets)

    def metrics(self):
        return torchmetrics.MetricCollection({"accuracy": torchmetrics.Accuracy("multiclass", num_classes=3)})

    def module_metrics(self, module):
        return {}


class Plain(Clouds):
    """Without augmentation: the random numbers of two processes are not those of one."""

    def augment(self, inputs, generator):
        return inputs


def small_net(seed=0, dropout=0.2):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 3))


def net_with_batch_norm(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))


def fitted(fabric, task, recipe, seed, dropout=0.0):
    """What each process of a DDP training does: weights, curve and test metrics."""
    from bench.study.training.evaluate import evaluate
    from bench.study.training.loop import Setting, fit

    torch.set_num_threads(1)
    net = small_net(dropout=dropout)
    splits = task.splits(0, None)
    progress = fit(Setting(fabric, task, splits, seed), net, recipe)
    weights = {name: value.tolist() for name, value in net.state_dict().items()}
    return weights, progress.curve, evaluate(fabric, net, task, splits.test, 16)
