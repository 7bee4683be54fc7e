"""What needs more than one process, or a C++ compiler: DDP over gloo, torch.compile with inductor."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

import phnn
from phnn.tolerances import tolerance

# Two processes see half of the batch each. Afterwards all parameters must be equal on both, equal to those of one
# process that saw the whole batch, and each must have had a gradient. A hypercomplex net with a layer of every kind.
_DDP = """
import os, sys
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
import phnn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        rule = phnn.learned_rule(4)
        self.conv = phnn.PHConv2d(4, 8, 3, padding=1, n=4, groups=1, rule=rule)
        self.up = phnn.PHConvTranspose2d(8, 8, 2, stride=2, algebra="quaternion")
        self.norm = phnn.PHBatchNorm2d(8, n=4).eval()
        self.turn = phnn.QuaternionRotationConv2d(8, 8, 1)
        self.rnn = phnn.PHGRU(8, 8, n=4, rule=rule, batch_first=True, bidirectional=True)
        self.attention = phnn.PHTransformerEncoderLayer(16, 2, 16, dropout=0.0, n=4, batch_first=True)
        self.head = phnn.PHLinear(16, 8, n=4, rule=rule)

    def forward(self, x):
        x = self.turn(self.norm(self.up(self.conv(x))))
        x, _ = self.rnn(x.flatten(2).transpose(1, 2))
        return self.head(self.attention(x))


rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
torch.set_num_threads(1)
torch.manual_seed(0)
net, alone = Net(), Net()
alone.load_state_dict(net.state_dict())
x = torch.randn(4, 4, 3, 3)
wrapped = DistributedDataParallel(net)


def step(module, batch):
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        module(batch).square().mean().backward()
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name
        optimizer.step()


step(wrapped, x[2 * rank : 2 * rank + 2])
step(alone, x)
for (name, p), q in zip(net.named_parameters(), alone.parameters(), strict=True):
    torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5, msg=name)
assert net.conv.A is net.head.A
dist.destroy_process_group()
"""


def test_two_processes_train_as_one_and_every_parameter_gets_a_gradient(tmp_path: Any) -> None:
    script = tmp_path / "ddp.py"
    script.write_text(_DDP)
    command = [sys.executable, str(script)]
    processes = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "store")], stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)


@pytest.mark.system("g++")  # inductor's C++ compiler
def test_a_net_compiles_whole_with_inductor() -> None:
    torch._dynamo.reset()
    net = nn.Sequential(
        phnn.PHConv2d(4, 8, 3, n=4, padding=1, padding_mode="circular"),
        phnn.PHWhitening2d(8, n=4),
        phnn.PHConvTranspose2d(8, 8, 2, stride=2, algebra="quaternion"),
        nn.Flatten(2),
        phnn.PHLinear(64, 8, n=4),
    )
    compiled = torch.compile(net, fullgraph=True)
    x = torch.randn(4, 4, 4, 4)
    net.eval()
    expected, y = net(x), compiled(x)
    assert (y - expected).norm() <= tolerance("float32", "composite") * expected.norm()
    y.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
