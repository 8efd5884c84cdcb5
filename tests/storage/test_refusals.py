"""What one root a weight cannot do is refused, with the reason and the way out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import Parameter
from torch.optim import Optimizer

from dwf_optim import DWFOptimizer


class Clipped(torch.optim.SGD):
    """Elementwise, but not the same on both sides of zero."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        super().step()
        for group in self.param_groups:
            for p in group["params"]:
                p.clamp_(min=-0.1)


def build(
    base: type[Optimizer] = torch.optim.SGD, dtype: torch.dtype = torch.float32, **options: Any
) -> None:
    DWFOptimizer([Parameter(torch.ones(2, 3, dtype=dtype))], 0.1, base=base, penalty=1e-3, **options)


def test_a_base_that_is_not_its_own_mirror_image() -> None:
    with pytest.raises(ValueError, match=r"Clipped cannot step one root .*mirror image.*storage='full'"):
        build(Clipped, storage="tied")
    build(Clipped)
    build(Clipped, storage="tied", depth=1)


@pytest.mark.parametrize("storage", ["tied"])
@pytest.mark.parametrize("init", ["preserve", "dwf", "varmatch"])
def test_other_starts_than_balanced(storage: str, init: str) -> None:
    with pytest.raises(ValueError, match=rf"storage='{storage}' has one root.*not '{init}'"):
        build(storage=storage, init=init)
    build(storage=storage, init="balanced")


@pytest.mark.parametrize("storage", ["tied"])
def test_even_depths_are_warned_of(storage: str) -> None:
    with pytest.warns(UserWarning, match=r"even depth 4.*never change its sign.*storage='full'"):
        build(storage=storage, depth=4)
