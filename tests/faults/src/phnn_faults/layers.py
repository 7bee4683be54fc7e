"""The layer that fails: the identity, by a parameter of ones."""

import time

import torch

from .faults import commit


class Faulty(torch.nn.Module):
    def __init__(self, channels: int, fault: str, seconds: float, device=None, dtype=None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(channels, device=device, dtype=dtype))
        self.fault, self.seconds, self.calls = fault, seconds, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        time.sleep(self.seconds)
        commit(self.fault, self.calls)
        return self.weight * x
