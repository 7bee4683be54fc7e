# %% [markdown]
# # PHC learns the rule of a convolution
#
# A parameterized hypercomplex convolution (PHC) is told neither the filters nor the algebra. Here it sees noise
# that went through a convolution over some algebra, and has to find out which algebra it was. Then it is applied to
# a photograph that it never saw.

# %%
import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_sample_image

import phnn

torch.manual_seed(0)
torch.set_num_threads(1)

# %% tags=["parameters"]
steps = 30  # of the optimiser, 10 evaluations of the loss each

# %% [markdown]
# ## A filter for colours
#
# A colour is a quaternion without real part, 0 + R i + G j + B k. A quaternion filter has a kernel for each of its
# four parts and mixes colours while it looks at the neighbourhood. This one blurs with its real part, and looks for
# edges with the other three.

# %%
kernels = torch.tensor(
    [
        [[1, 2, 1], [2, 4, 2], [1, 2, 1]],
        [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
        [[-1, -2, -1], [0, 0, 0], [1, 2, 1]],
        [[0, -1, 0], [-1, 4, -1], [0, -1, 0]],
    ],
    dtype=torch.float32,
)


def convolution(algebra):
    """The convolution with the four kernels over an algebra: 1 hypercomplex channel to 1."""
    layer = phnn.PHConv2d(4, 4, 3, padding=1, bias=False, algebra=algebra)
    with torch.no_grad():
        layer.F.copy_((kernels / 8)[:, None, None])
    return layer


# %% [markdown]
# ## Learning from noise
#
# White noise excites every channel and every frequency alike, so that no part of the rule stays hidden.
# (Photographs alone would hide some: their real part is always 0, and a column of every Aᵢ would meet nothing.)


# %%
def learn(teacher, noise=0.0):
    """A PHC of n = 4 that has learned from what ``teacher`` makes of noise, and its losses."""
    x = torch.randn(16, 4, 12, 12)
    with torch.no_grad():
        y = teacher(x)
        y += noise * y.std() * torch.randn_like(y)
    student = phnn.PHConv2d(4, 4, 3, padding=1, bias=False, n=4)
    optimizer = torch.optim.LBFGS(
        student.parameters(), max_iter=10, line_search_fn="strong_wolfe", tolerance_change=0
    )

    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(student(x), y)
        loss.backward()
        return loss

    return student, [optimizer.step(closure).item() for _ in range(steps)]


def distance(rule, truth):
    """How far the space that the matrices of ``rule`` span is from that of ``truth``: 0 for the same rule.

    A rule is known up to an invertible matrix M, since (M A, M⁻ᵀ F) give the same weight; the best M is taken.
    """
    M = torch.linalg.lstsq(rule.flatten(1).T, truth.flatten(1).T).solution.T
    return ((M @ rule.flatten(1) - truth.flatten(1)).norm() / truth.norm()).item()


teacher = convolution("quaternion")
untrained = phnn.PHConv2d(4, 4, 3, padding=1, bias=False, n=4)
student, losses = learn(teacher)
found = distance(student.A.detach(), teacher.A)
print(f"distance from Hamilton's rule: {distance(untrained.A.detach(), teacher.A):.2f} before, {found:.1e} after")

# %% [markdown]
# ## On a photograph

# %%
photograph = torch.tensor(load_sample_image("flower.jpg")[60:-60:2, 120:-120:2] / 255, dtype=torch.float32)
colours = torch.cat([torch.zeros_like(photograph[..., :1]), photograph], -1).permute(2, 0, 1)[None]


def shown(image):
    """The imaginary part as a picture."""
    image = image[0, 1:].permute(1, 2, 0)
    return ((image - image.amin()) / (image.amax() - image.amin())).numpy()


with torch.no_grad():
    pictures = {
        "photograph": colours,
        "teacher": teacher(colours),
        "student, untrained": untrained(colours),
        "student, trained": student(colours),
    }
    error = ((pictures["student, trained"] - pictures["teacher"]).norm() / pictures["teacher"].norm()).item()

figure, axes = plt.subplots(2, 2, figsize=(6, 5), layout="constrained")
for axis, (title, picture) in zip(axes.flat, pictures.items(), strict=True):
    axis.imshow(shown(picture))
    axis.set(title=title, xticks=[], yticks=[])
plt.show()
print(f"relative error of the student on the photograph: {error:.1e}")

# %% [markdown]
# ## Which algebra was it?
#
# Four algebras of dimension 4 make the data, one after the other. Each student is then compared with all of them:
# the rule that it learned is the one that it was shown, and none of the others.

# %%
names = ["quaternion", "split_quaternion", "tessarine", "klein4"]
rules = {name: convolution(name).A for name in names}
students = {name: learn(convolution(name))[0].A.detach() for name in names}
table = torch.tensor([[distance(students[row], rules[column]) for column in names] for row in names])

figure, axis = plt.subplots(figsize=(5.6, 4), layout="constrained")
drawn = axis.imshow(table.numpy(), cmap="Blues", vmin=0, vmax=1)
for (row, column), value in zip(torch.cartesian_prod(torch.arange(4), torch.arange(4)), table.flatten(), strict=True):
    text = f"{value:.2f}" if value > 0.005 else f"{value:.0e}"
    axis.text(column, row, text, ha="center", va="center", color="white" if value > 0.5 else "black")
written = [name.replace("_", "\n") for name in names]
axis.set(xticks=range(4), yticks=range(4), xticklabels=written, yticklabels=written)
axis.set(xlabel="compared with", ylabel="learned from")
figure.colorbar(drawn, label="distance of rules")
plt.show()

# %% [markdown]
# ## With noise in the data
#
# The error of the rule grows in proportion to the noise of the outputs that the student is shown.

# %%
levels = [0.01, 0.03, 0.1, 0.3]
noisy = [distance(learn(teacher, noise)[0].A.detach(), teacher.A) for noise in levels]

figure, axis = plt.subplots(figsize=(4.6, 3), layout="constrained")
axis.loglog(levels, noisy, "o-", color="#D55E00")
axis.set(xlabel="noise / signal", ylabel="distance from Hamilton's rule", title="What noise costs")
plt.show()

# %% [markdown]
# ## What this shows, and what not
#
# - A learned rule can be any algebra of its dimension, and data that come from one are enough to find it.
# - It takes data that excite every component. With a grey or an RGB image as the only input, a part of the rule of
#   the *first* layer is free, and its entries mean nothing.
# - That a net can find a rule does not say that a task has one. For that, compare accuracies, with their intervals,
#   over several seeds.
