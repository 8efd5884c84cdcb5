"""Published results, to be drawn beside ours.

By network and data, then by name: compressions, and test errors there in percent.
"""

from __future__ import annotations

# By name, what is cited.
SOURCES = {
    "dense": "the dense networks of the same tables",
    "Han et al.": "NeurIPS 2015, arXiv 1506.02626",
    "Dynamic network surgery": "Guo et al., NeurIPS 2016, arXiv 1608.04493",
    "Sparse variational dropout": "Molchanov et al., ICML 2017, arXiv 1701.05369",
    "SNIP": "Lee et al., ICLR 2019, arXiv 1810.02340; numbers by SynFlow's authors, means of three runs",
    "SynFlow": "Tanaka et al., NeurIPS 2020, arXiv 2006.05467; means of three runs",
}

Points = dict[str, tuple[tuple[float, float], ...]]

_CIFAR = (1.0, 10.0, 31.6, 100.0, 316.0, 1000.0)


def _errors(*accuracies: float) -> tuple[tuple[float, float], ...]:
    return tuple((at, round(100 - value, 2)) for at, value in zip(_CIFAR, accuracies, strict=True))


PUBLISHED: dict[tuple[str, str], Points] = {
    ("LeNet-300-100", "mnist"): {
        "dense": ((1, 1.64),),
        "Han et al.": ((12, 1.59),),
        "Dynamic network surgery": ((56, 1.99),),
        "Sparse variational dropout": ((68, 1.92),),
    },
    ("LeNet-5", "mnist"): {
        "dense": ((1, 0.80),),
        "Han et al.": ((12, 0.77),),
        "Dynamic network surgery": ((111, 0.91),),
        "Sparse variational dropout": ((280, 0.75),),
    },
    ("ResNet-18", "cifar10"): {
        "SNIP": _errors(94.9, 94.3, 93.2, 90.8, 86.0, 78.7),
        "SynFlow": _errors(94.8, 94.1, 92.7, 90.4, 86.1, 79.8),
    },
    ("VGG-16", "cifar10"): {"SynFlow": _errors(93.5, 93.3, 92.1, 90.1, 86.8, 80.4)},
}
