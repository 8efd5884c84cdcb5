"""Published results, to be read beside ours."""

from __future__ import annotations

# FLOPs saved within 5 % and 10 % of the best accuracy, from arXiv 2509.23898, by setup.
PUBLISHED: dict[str, dict[str, tuple[float, float]]] = {
    "vgg-16": {
        "D-Gating, D = 2": (16.1, 52.7),
        "D-Gating, D = 3": (11.2, 25.5),
        "D-Gating, D = 4": (18.9, 49.0),
        "group lasso and pruning": (7.0, 7.0),
        "network slimming": (2.5, 4.9),
    }
}
