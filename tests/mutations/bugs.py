"""The bugs that are planted: each replaces one piece of text that stands in one file once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Bug:
    """A bug as someone might write it.

    Attributes:
        name: In the table.
        path: The file, from the root of the repository.
        old: What stands there.
        new: What is planted instead.
        suspects: Files of tests/properties that should find it.
        fast: Whether ``--fast`` plants it.
    """

    name: str
    path: str
    old: str
    new: str
    suspects: tuple[str, ...]
    fast: bool = False

    def plant(self, root: Path) -> None:
        """Write the bug into a copy of the repository.

        Raises:
            ValueError: If the text does not stand there once: the code has changed, and so must the bug.
        """
        file = root / self.path
        text = file.read_text()
        if text.count(self.old) != 1:
            raise ValueError(
                f"bug {self.name!r}: {self.path} holds its text {text.count(self.old)} times, not once; "
                "write it anew in tests/mutations/bugs.py"
            )
        file.write_text(text.replace(self.old, self.new))


FACTORS = "dwf_optim/factors.py"
PENALTY, GRADIENTS = ("test_penalty.py",), ("test_gradients.py",)

BUGS = [
    # The six of the issue.
    Bug(
        "wrong exponent: |w|^(1/D) for |w|^(2/D)",
        FACTORS,
        "return weight.abs().pow(2 / depth).sum()",
        "return weight.abs().pow(1 / depth).sum()",
        PENALTY,
        fast=True,
    ),
    Bug(
        "lambda instead of 2 lambda/D",
        FACTORS,
        "decay = 2 * penalty / len(factors)",
        "decay = penalty",
        GRADIENTS,
        fast=True,
    ),
    Bug(
        "missing factor in the product",
        FACTORS,
        "for factor in factors[2:]:",
        "for factor in factors[2:-1]:",
        PENALTY,
        fast=True,
    ),
    Bug(
        "decay on the product, not on the factors",
        FACTORS,
        "gradients = leave_one_out(factors, start=grad, out=room)\n    if penalty != 0:",
        "grad = grad + 2 * penalty * product(factors)\n"
        "    gradients = leave_one_out(factors, start=grad, out=room)\n    if False:",
        GRADIENTS,
        fast=True,
    ),
    Bug(
        "decoupled decay of the factors",
        "dwf_optim/step/reference.py",
        "slot.grad, options.penalty, depth, out)",
        "slot.grad, 0.0, depth, out)\n        for tensor in tensors:\n"
        "            tensor.mul_(1 - float(options.base['lr']) * 2 * options.penalty / depth)",
        ("test_state_machine.py",),
        fast=True,
    ),
    Bug(
        "sign lost in init",
        FACTORS,
        "factors[-1] = (weight / product(factors[:-1]))",
        "factors[-1] = (weight.abs() / product(factors[:-1]))",
        ("test_state_machine.py",),
        fast=True,
    ),
    # Others that such code has had, or nearly.
    Bug(
        "factor penalty without 1/D",
        FACTORS,
        "return total / len(factors)",
        "return total / (len(factors) - 1)",
        PENALTY,
    ),
    Bug(
        "a factor is in its own gradient",
        FACTORS,
        "results.append(torch.mul(results[-1], factors[d - 1], out=room[d]))",
        "results.append(torch.mul(results[-1], factors[d], out=room[d]))",
        GRADIENTS,
    ),
    Bug(
        "a weight of 0 starts with factors that are not",
        FACTORS,
        "candidate in candidates\n    ]\n",
        "candidate in candidates\n    ]\n    for factor in factors[:-1]:\n"
        "        factor.masked_fill_(zero, 1)\n",
        ("test_sgd.py",),
    ),
    Bug(
        "the penalty's sign turned round",
        "dwf_optim/step/group.py",
        'penalty=-penalty if options.get("maximize") else penalty,',
        "penalty=-penalty,",
        ("test_sgd.py",),
    ),
    Bug(
        "the native step gets half the penalty",
        "dwf_optim/step/native.py",
        "penalty=options.penalty,",
        "penalty=options.penalty / 2,",
        ("test_steps.py",),
    ),
    Bug(
        "one root: the penalty's share is that of D factors",
        "dwf_optim/roots.py",
        "gradient.add_(root, alpha=2 * penalty / depth)",
        "gradient.add_(root, alpha=2 * penalty)",
        ("test_steps.py",),
    ),
    Bug(
        "one root: even depths forget the sign",
        "dwf_optim/roots.py",
        "    factors = [root.clone() for _ in range(depth)]\n    if depth % 2 == 0:",
        "    factors = [root.clone() for _ in range(depth)]\n    if False:",
        ("test_steps.py",),
    ),
    Bug(
        "the budget law without its 2",
        "dwf_optim/learning_rate.py",
        "return math.log(start / threshold) / 2",
        "return math.log(start / threshold)",
        ("test_sgd.py",),
    ),
    Bug(
        "a checkpoint without the base's state",
        "dwf_optim/checkpoint.py",
        "        for key, value in values.items():\n            if is_of_weight",
        "        for key, value in values.items():\n            if key.startswith('base.'):\n"
        "                continue\n            if is_of_weight",
        ("test_steps.py",),
    ),
]
