# %% [markdown]
# # PHM learns the Hamilton product
#
# A quaternion layer knows the Hamilton product: its multiplication table is a constant. A parameterized
# hypercomplex layer (PHM) of n = 4 has no table. Its rule is a parameter A of 4 × 4 × 4 numbers, learned like any
# weight. If a quaternion layer is the teacher, does the student find Hamilton's table?
#
# The student learns the function to rounding, and the table with it, but in a basis of its own, and this page shows
# how to read it.

# %%
import matplotlib.pyplot as plt
import torch

import phnn

torch.manual_seed(0)
torch.set_num_threads(1)
print(phnn.algebra("quaternion"))

# %% tags=["parameters"]
steps = 15  # of the optimiser, 10 evaluations of the loss each

# %% [markdown]
# ## Teacher, student, data
#
# Both layers map 4 quaternions to 4 quaternions, so that 16 weights meet the same rule: with a single product of
# quaternions, one 4 × 4 matrix would be all that the data show, and any table could explain it.

# %%
teacher = phnn.PHLinear(16, 16, algebra="quaternion", bias=False)
student = phnn.PHLinear(16, 16, n=4, bias=False)

x = torch.randn(256, 16)
with torch.no_grad():
    y = teacher(x)

for name, layer in (("teacher", teacher), ("student", student), ("real layer", torch.nn.Linear(16, 16, bias=False))):
    print(f"{name:<10} {sum(p.numel() for p in layer.parameters()):>4} parameters")

# %% [markdown]
# ## Training
#
# The loss is a polynomial in few parameters and has no noise: L-BFGS is the tool for that.


# %%
def learn(layer):
    """Train ``layer`` in place; its losses."""
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=10, line_search_fn="strong_wolfe", tolerance_change=0)

    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(layer(x), y)
        loss.backward()
        return loss

    return [optimizer.step(closure).item() for _ in range(steps)]


losses = learn(student)
with torch.no_grad():
    fresh = torch.randn(1000, 16)
    error = ((student(fresh) - teacher(fresh)).norm() / teacher(fresh).norm()).item()
print(f"relative error on inputs that the student has not seen: {error:.1e}")

# %%
figure, axis = plt.subplots(figsize=(5, 2.6), layout="constrained")
axis.semilogy(losses, color="#D55E00")
axis.set(xlabel="step", ylabel="mean squared error", title="The student learns the product")
plt.show()

# %% [markdown]
# ## Reading the rule
#
# The weight is W = Σᵢ Aᵢ ⊗ Fᵢ. For any invertible matrix M, the rule M A with the filters M⁻ᵀ F gives the same W:
# n² degrees of freedom that no data can settle (`phnn.redundancy` counts them). Two rules are the same rule if
# their matrices span the same space. So before the learned rule is compared, it is brought into the basis in which
# it comes closest to Hamilton's: a least squares problem for M.


# %%
def aligned(rule, truth):
    """The rule M A that comes closest to ``truth``."""
    M = torch.linalg.lstsq(rule.flatten(1).T, truth.flatten(1).T).solution.T
    return (M @ rule.flatten(1)).view_as(truth)


learned, hamilton = student.A.detach(), teacher.A
found = aligned(learned, hamilton)
distance = ((found - hamilton).norm() / hamilton.norm()).item()
print(f"redundant degrees of freedom: {phnn.redundancy(student)}")
print(f"distance of the learned rule from Hamilton's: {distance:.1e}")

# %%
figure, axes = plt.subplots(3, 4, figsize=(6, 4.8), layout="constrained")
for row, (title, rule) in enumerate((("learned", learned), ("in Hamilton's basis", found), ("Hamilton", hamilton))):
    reach = rule.abs().max().item()
    for i, axis in enumerate(axes[row]):
        axis.imshow(rule[i].numpy(), cmap="RdBu", vmin=-reach, vmax=reach)
        axis.set(xticks=[], yticks=[], title=f"$A_{i}$" if row == 0 else None)
    axes[row][0].set_ylabel(title)
plt.show()

# %% [markdown]
# The first row looks like nothing in particular. The second row is the same rule in another basis, and equals the
# third.
#
# ## Another start, another basis, the same rule

# %%
other = phnn.PHLinear(16, 16, n=4, bias=False)
learn(other)
rule = other.A.detach()
apart = ((rule - learned).norm() / learned.norm()).item()
between = ((aligned(rule, learned) - learned).norm() / learned.norm()).item()
print(f"the two learned rules as they are: {apart:.1e} apart")
print(f"in one basis:                      {between:.1e} apart")

# %% [markdown]
# ## What this shows, and what not
#
# - A PH layer contains the quaternion layer: with 64 numbers more for the rule it learns the same function.
# - The rule can be read once the gauge is taken out. Comparing entries of A between runs says nothing.
# - The data came from a quaternion layer. In a net trained on images nothing says that there is a Hamilton product
#   to find, and the rule that is learned there need not be any named algebra.
