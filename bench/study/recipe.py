"""The recipe: how a net is trained. Part of a case's identity; no torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

_Share = Annotated[float, Field(gt=0, lt=1)]
_Rate = Annotated[float, Field(gt=0)]


class Recipe(BaseModel):
    """Budget, optimiser and schedule of one training; the same for every variant that is compared.

    epochs or steps: the budget, the one that is not 0. lr: the peak learning rate, reached by a linear warm-up over
    ``warmup`` of the steps; then the schedule: down to 0 along half a cosine, times ``gamma`` at each of the
    ``milestones`` (shares of the budget), or constant.

    lr_search: learning rates of which each variant takes the one that does best on its own validation part, after
    ``search_share`` of the budget each; ``lr`` then counts for nothing. patience: validations without an improvement
    after which training ends (0: never). keep: the weights that are tested, the last or those that did best in
    validation. batch_size: over all devices together. devices: processes that train one net together (DDP).

    start: ``project`` trains the real net by this recipe first, converts it with the nearest weights over the algebra
    (phnn.convert, init="project"), and trains on for ``finetune_epochs`` at a peak of ``finetune_lr``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(default=30, ge=0)
    steps: int = Field(default=0, ge=0)
    batch_size: int = Field(default=128, ge=1)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: _Rate = 0.1
    lr_search: tuple[_Rate, ...] = ()
    search_share: float = Field(default=0.3, gt=0, le=1)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0)
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    milestones: tuple[_Share, ...] = (0.5, 0.75)
    gamma: float = Field(default=0.1, gt=0, le=1)
    warmup: float = Field(default=0.1, ge=0, lt=1)
    patience: int = Field(default=0, ge=0)
    keep: Literal["last", "best"] = "last"
    devices: int = Field(default=1, ge=1)
    start: Literal["random", "project"] = "random"
    finetune_epochs: int = Field(default=0, ge=0)
    finetune_lr: _Rate = 0.01

    @model_validator(mode="before")
    @classmethod
    def _steps_alone(cls, data: object) -> object:
        # who asks for steps need not say that the default of epochs is off
        if isinstance(data, dict) and data.get("steps") and "epochs" not in data:
            return {**data, "epochs": 0}
        return data

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if bool(self.epochs) == bool(self.steps):
            raise ValueError(
                f"the budget is epochs or steps, one of them above 0; it has {self.epochs}, {self.steps}"
            )
        if len(set(self.lr_search)) < len(self.lr_search) or len(self.lr_search) == 1:
            raise ValueError("lr_search lists at least two learning rates, each once; a single one is lr")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError("milestones rise, each a share of the budget between 0 and 1")
        if self.finetune_epochs and self.start != "project":
            raise ValueError("finetune_epochs is for start = 'project': what is not converted is trained by epochs")
        return self

    def shorter(self, lr: float) -> Recipe:
        """The training that tries ``lr`` in a search: the same schedule over ``search_share`` of the budget.

        The least budget is one epoch or step, and no patience: candidates are compared at equal budgets.
        """
        epochs, steps = (max(1, round(self.search_share * b)) if b else 0 for b in (self.epochs, self.steps))
        return self.at(lr).model_copy(update={"epochs": epochs, "steps": steps, "patience": 0})

    def at(self, lr: float) -> Recipe:
        """This recipe with a learning rate that has been chosen."""
        return self.model_copy(update={"lr": lr, "lr_search": ()})

    @property
    def finetuning(self) -> Recipe:
        """The training that follows a conversion."""
        update = {"epochs": self.finetune_epochs, "steps": 0, "start": "random", "finetune_epochs": 0}
        return self.at(self.finetune_lr).model_copy(update=update)
