"""Hypothesis profiles, the `gpu` marker, and the number of threads."""

from __future__ import annotations

import os

import pytest
import torch
from hypothesis import HealthCheck, Phase, settings

# Timings on shared machines say nothing, so no profile has a deadline, or calls drawing too slow.
# `ci` draws the same examples every time.
_any_machine = settings(deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", _any_machine, max_examples=50, derandomize=True, database=None)
settings.register_profile("dev", _any_machine)
settings.register_profile("thorough", _any_machine, max_examples=1000)
# Of a planted bug it is enough that it is found: making the example simple takes far longer.
settings.register_profile("mutants", settings.get_profile("ci"), phases=[Phase.explicit, Phase.generate])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# Sums are split by thread: with a fixed number the last bits do not depend on the machine. One, because
# on a busy machine threads wait for each other far longer than tensors this small take.
torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `gpu` on a machine without CUDA."""
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="no CUDA device")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(skip)
