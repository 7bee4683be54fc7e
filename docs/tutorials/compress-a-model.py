# %% [markdown]
# # Compress a torchvision model
#
# A trained ResNet18 from torchvision, its convolutions replaced by parameterized hypercomplex ones that start from
# its weights (`phnn.convert(init="project")`), trained on for a moment, and turned back into plain torch
# (`phnn.to_real`). The data are scikit-learn's handwritten digits, which need no download; the net is trained here,
# so that all of it takes a minute.

# %%
import io

import matplotlib.pyplot as plt
import torch
import torchvision
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.nn.functional import cross_entropy, interpolate

import phnn

torch.manual_seed(0)
torch.set_num_threads(1)

# %% tags=["parameters"]
epochs = 4  # of the real net
more_epochs = 2  # of a converted net
images = 1797  # all there are

# %%
x, y = load_digits(return_X_y=True)
x = torch.tensor(x[:images], dtype=torch.float32).reshape(-1, 1, 8, 8) / 8 - 1
x = interpolate(x, scale_factor=2, mode="bilinear").expand(-1, 3, -1, -1).contiguous()
y = torch.tensor(y[:images])
train_x, test_x, train_y, test_y = train_test_split(x, y, test_size=0.2, stratify=y, random_state=0)


def train(net, epochs, lr):
    """Stochastic gradient descent with momentum and a cosine schedule, one and the same for every net."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps = epochs * -(-len(train_y) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    net.train()
    for _ in range(epochs):
        for picked in torch.randperm(len(train_y), generator=generator).split(64):
            optimizer.zero_grad()
            cross_entropy(net(train_x[picked]), train_y[picked]).backward()
            optimizer.step()
            schedule.step()
    return net


def accuracy(net):
    """Per cent of the test images that are classified right."""
    net.eval()
    with torch.inference_mode():
        return 100 * (net(test_x).argmax(1) == test_y).float().mean().item()


def parameters(net):
    """Parameters, in millions."""
    return sum(p.numel() for p in net.parameters()) / 1e6


# %% [markdown]
# ## The real net

# %%
net = train(torchvision.models.resnet18(weights=None, num_classes=10), epochs, lr=0.05)
results = {"real": (parameters(net), accuracy(net))}
print(f"real: {results['real'][0]:.2f} M parameters, {results['real'][1]:.1f} % right")

# %% [markdown]
# ## Converted, with its weights
#
# Each weight is replaced by the nearest sum of n Kronecker products. The report says what changed and what it cost:
# the last column is ‖W − W_ph‖/‖W‖. The first convolution has 3 input channels, which n does not divide, and stays
# real, as does the classifier.

# %%
halves = phnn.convert(net, n=2, init="project")
quarters = phnn.convert(net, n=4, init="project")
report = str(quarters.conversion).splitlines()
print("\n".join([*report[:6], "…", report[-1]]))

# %%
results["n = 2, projected"] = parameters(halves), accuracy(halves)
results["n = 4, projected"] = parameters(quarters), accuracy(quarters)
for name in ("n = 2, projected", "n = 4, projected"):
    print(f"{name}: {results[name][0]:.2f} M parameters, {results[name][1]:.1f} % right")

# %% [markdown]
# Trained weights are no sums of few Kronecker products: the projection alone loses most of what was learned. It is
# a start for further training, not a compression that needs none.
#
# ## Trained on for a moment
#
# The control is a net of the same form with fresh weights, trained for as long as the projected one is trained on.

# %%
train(halves, more_epochs, lr=0.02)
train(quarters, more_epochs, lr=0.02)
fresh = train(phnn.convert(net, n=4), more_epochs, lr=0.02)
results["n = 2, trained on"] = parameters(halves), accuracy(halves)
results["n = 4, trained on"] = parameters(quarters), accuracy(quarters)
results["n = 4, from fresh weights"] = parameters(fresh), accuracy(fresh)
for name, (millions, right) in results.items():
    print(f"{name:<26} {millions:6.2f} M parameters   {right:5.1f} % right")

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
for n, converted, colour in ((2, halves, "#56B4E9"), (4, quarters, "#0072B2")):
    errors = [layer.error for layer in converted.conversion.converted]
    axes[0].plot(errors, "o-", color=colour, label=f"n = {n}", markersize=4)
    axes[0].axhline((1 - 1 / n) ** 0.5, color=colour, linestyle=":")
axes[0].set(xlabel="layer", ylabel="‖W − W_ph‖ / ‖W‖", ylim=(0, 1), title="What the projection loses")
axes[0].xaxis.get_major_locator().set_params(integer=True)
axes[0].legend(title="dotted: random weights")
looks = {
    "real": ("#000000", "o"),
    "projected": ("#56B4E9", "v"),
    "trained on": ("#0072B2", "^"),
    "fresh": ("#D55E00", "s"),
}
for kind, (colour, marker) in looks.items():
    points = [value for name, value in results.items() if kind in name]
    axes[1].plot(*zip(*points, strict=True), marker, color=colour, label=kind)
axes[1].set(xlabel="parameters (millions)", ylabel="test images right (%)", ylim=(0, 103), xlim=(0, None))
axes[1].set_title("What further training brings back")
axes[1].legend()
plt.show()

# %% [markdown]
# ## Back to plain torch
#
# `to_real` multiplies each rule and its filters out. The result has torch's own layers and torchvision's names,
# computes the same, and needs nothing of this package. It also has the real net's size again: what is small is the
# PH net's state_dict. Ship that, and bake where it is used.

# %%
quarters.eval()
baked = phnn.to_real(quarters)
plain = torchvision.models.resnet18(weights=None, num_classes=10)
plain.load_state_dict(baked.state_dict())
plain.eval()

with torch.inference_mode():
    difference = (plain(test_x) - quarters(test_x)).abs().max().item()


def file_bytes(net):
    """What torch.save makes of the weights."""
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    return file.tell()


print(f"largest difference of any output: {difference:.1e}")
print(f"files: {file_bytes(quarters) / 2**20:.1f} MiB over n = 4, {file_bytes(plain) / 2**20:.1f} MiB as plain torch")

# %% [markdown]
# ## What this shows, and what not
#
# This is one net, one split and one seed on an easy task: it shows how the tools are used, not how much accuracy a
# compressed net keeps. `bench/sweeps/accuracy.toml` asks that, over several seeds, with intervals, beside a slim
# real net that is as small.
