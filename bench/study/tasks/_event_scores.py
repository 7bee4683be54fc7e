"""How well sound events were detected, as L3DAS21 defines it: counted in each step of 100 ms, class by class.

In a step, a predicted event is right if the clip has one of its class then; each answers for one at most. With TP, FP
and FN summed over all steps of all clips,

    precision = TP / (TP + FP),   recall = TP / (TP + FN),   f_score = 2 TP / (2 TP + FP + FN),

and with S = min(FP, FN), D = FN - S and I = FP - S within each step (substituted, deleted, inserted), N the events,

    error_rate = sum(S + D + I) / sum(N),   sed_score = (error_rate + 1 - f_score) / 2.

A quotient whose denominator is 0 is 0; the error rate of clips without any event is over N = 1. Source: Mesaros et
al., *Metrics for polyphonic sound event detection*, 2016; *Joint measurement of localization and detection of sound
events*, 2019, here without the location; Guizzo et al., *L3DAS21 challenge*, 2021.

The scripts published with L3DAS21 and with the PH papers count steps where nothing was predicted, or nothing sounded,
twice, and let one prediction answer for several events of its class: figures printed by them are somewhat other ones.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

SCORES = ("sed_score", "error_rate", "f_score", "precision", "recall")


class EventScores(Metric):
    """All five scores; outputs (over 0.5 is yes), targets: (batch, steps, num_classes * overlaps), class by class."""

    full_state_update = False
    TP: Tensor
    FP: Tensor
    FN: Tensor
    errors: Tensor

    def __init__(self, overlaps: int) -> None:
        super().__init__()
        self.overlaps = overlaps
        for name in ("TP", "FP", "FN", "errors"):
            self.add_state(name, torch.tensor(0, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        predicted, true = (self._events(x) for x in (outputs, targets))
        right = torch.minimum(predicted, true).sum(-1)  # of each step
        false, missed = predicted.sum(-1) - right, true.sum(-1) - right
        self.TP += right.sum()
        self.FP += false.sum()
        self.FN += missed.sum()
        self.errors += torch.maximum(false, missed).sum()  # S + D + I

    def compute(self) -> dict[str, Tensor]:
        TP, FP, FN = (count.double() for count in (self.TP, self.FP, self.FN))
        error_rate = self.errors / (TP + FN).clamp_min(1)
        f_score = 2 * TP / (2 * TP + FP + FN).clamp_min(1)
        return {
            "sed_score": (error_rate + 1 - f_score) / 2,
            "error_rate": error_rate,
            "f_score": f_score,
            "precision": TP / (TP + FP).clamp_min(1),
            "recall": TP / (TP + FN).clamp_min(1),
        }

    def _events(self, x: Tensor) -> Tensor:
        """How many events of each class in each step: (batch, steps, num_classes)."""
        return (x > 0.5).unflatten(-1, (-1, self.overlaps)).sum(-1)
