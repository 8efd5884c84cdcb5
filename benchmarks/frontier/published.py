"""Published results, to be drawn beside ours.

By network and data, then by name: compressions, and test errors there in percent.
"""

from __future__ import annotations

Points = dict[str, tuple[tuple[float, float], ...]]

# SNIP and SynFlow: means of three runs, from the arrays of SynFlow's authors.
_CIFAR = (10.0, 31.6, 100.0, 316.0, 1000.0)


def _errors(*accuracies: float) -> tuple[tuple[float, float], ...]:
    return tuple((at, round(100 - value, 2)) for at, value in zip(_CIFAR, accuracies, strict=True))


PUBLISHED: dict[tuple[str, str], Points] = {
    ("LeNet-300-100", "mnist"): {
        "Han et al.": ((12, 1.59),),
        "Dynamic network surgery": ((56, 1.99),),
        "Sparse variational dropout": ((68, 1.92),),
    },
    ("LeNet-5", "mnist"): {
        "Han et al.": ((12, 0.77),),
        "Dynamic network surgery": ((111, 0.91),),
        "Sparse variational dropout": ((280, 0.75),),
    },
    ("ResNet-18", "cifar10"): {
        "SNIP": _errors(94.3, 93.2, 90.8, 86.0, 78.7),
        "SynFlow": _errors(94.1, 92.7, 90.4, 86.1, 79.8),
    },
    ("VGG-16", "cifar10"): {"SynFlow": _errors(93.3, 92.1, 90.1, 86.8, 80.4)},
}
