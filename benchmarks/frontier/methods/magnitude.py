"""Global magnitude pruning in one shot."""

from __future__ import annotations

from benchmarks.frontier.method import Method


class Magnitude(Method):
    """Dense training, then the smallest weights of all layers together go."""

    source = "Han et al., NeurIPS 2015, without retraining"
    deviation = "one threshold over all layers"


class MagnitudeFinetuned(Magnitude):
    """The same, and the rest trained on."""

    source = "Han et al., NeurIPS 2015, one round"
    deviation = "one threshold over all layers; half of the steps follow the cut"
    finetune = 0.5
