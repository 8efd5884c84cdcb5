"""What a method is: hooks around the one training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from benchmarks.frontier.masks import Masks, apply_, keep_largest, prunable

Batches = Iterator[tuple[Tensor, Tensor]]


@dataclass
class Settings:
    """What a run tells its method.

    Attributes:
        lr: Learning rate.
        momentum: Of SGD.
        strength: The method's own number (penalty, decay, ...), tuned beside ``lr``.
        sparsity: Fraction of zeros to end with; None where one training serves several.
        steps: Of the whole run.
        seed: Of whatever the method draws.
    """

    lr: float
    momentum: float
    strength: float
    sparsity: float | None
    steps: int
    seed: int


class Method:
    """Dense training, and the base of all methods: SGD with momentum, cut by magnitude in the end.

    Methods are copied (`copy.deepcopy`) with their model, so they keep no other references to it.

    Attributes:
        source: The paper.
        deviation: What is done otherwise than there, for the report.
        serves_all: Whether one training is cut to every compression; otherwise each has its own.
        finetune: The last part of the steps, which follows the cut. The learning rate goes on down the
            one cosine that all runs have.
        strengths: What is tried for ``strength``.
    """

    source: ClassVar[str] = ""
    deviation: ClassVar[str] = ""
    serves_all: ClassVar[bool] = True
    finetune: ClassVar[float] = 0.0
    strengths: ClassVar[tuple[float, ...]] = (0.0,)

    def __init__(self, model: nn.Module, settings: Settings) -> None:
        self.model, self.settings = model, settings
        self.masks: Masks = {}
        self.optimizer = self.make_optimizer()

    def make_optimizer(self) -> Optimizer:
        """Make the optimizer, of the whole run."""
        return torch.optim.SGD(
            self.model.parameters(), lr=self.settings.lr, momentum=self.settings.momentum
        )

    def before(self, batches: Batches, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Do what comes before the first step.

        Args:
            batches: Training batches without end, in an order of their own.
            loss: Of outputs and targets.
        """

    def before_step(self) -> None:
        """Do what comes between the gradients and the step."""

    def after_step(self, step: int) -> None:
        """Do what comes after a step, whose number is from 1; zeros that are masked stay zero."""
        apply_(self.masks, self.model)

    def cut(self, sparsity: float) -> None:
        """Bring the network to a sparsity, where it is not there yet; what is zero then stays zero."""
        sizes = {name: p.detach().abs() for name, p in prunable(self.model).items()}
        self.hold(keep_largest(sizes, sparsity))

    def hold(self, masks: Masks) -> None:
        """Set what is masked to zero, for good."""
        # In the weights' type, because a product with booleans takes four times as long.
        weights = prunable(self.model)
        self.masks = {name: mask.to(weights[name].dtype) for name, mask in masks.items()}
        apply_(self.masks, self.model)

    def at_start(self) -> float:
        """Return the sparsity that is reached before training.

        Raises:
            ValueError: If the run has none.
        """
        if self.settings.sparsity is None:
            raise ValueError(f"{type(self).__name__} prunes to one sparsity: give the run one")
        return self.settings.sparsity
