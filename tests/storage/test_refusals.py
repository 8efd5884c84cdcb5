"""What one root a weight cannot do is refused, with the reason and the way out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import Parameter
from torch.optim import Optimizer

from dwf_optim import DWFOptimizer
from tests.helpers import Lion, step_with


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


@pytest.mark.parametrize("storage", ["tied", "ephemeral"])
@pytest.mark.parametrize("init", ["preserve", "dwf", "varmatch"])
def test_other_starts_than_balanced(storage: str, init: str) -> None:
    with pytest.raises(ValueError, match=rf"storage='{storage}' has one root.*not '{init}'"):
        build(storage=storage, init=init)
    build(storage=storage, init="balanced")


@pytest.mark.parametrize("storage", ["tied", "ephemeral"])
def test_even_depths_are_warned_of(storage: str) -> None:
    with pytest.warns(UserWarning, match=r"even depth 4.*never change its sign.*storage='full'"):
        build(storage=storage, depth=4)


class Renamed(torch.optim.SGD):
    """A subclass, which might keep more."""


@pytest.mark.parametrize("base", [Lion, Renamed, torch.optim.NAdam, torch.optim.RMSprop])
def test_ephemeral_takes_built_in_bases_only(base: type[Optimizer]) -> None:
    with pytest.raises(ValueError, match=rf"does not know what {base.__name__} keeps.*AdamW.*'tied'"):
        build(base, storage="ephemeral")
    build(base, storage="tied")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_ephemeral_takes_no_half_precision(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=r"ephemeral.*float16 would lose small steps.*float32.*'tied'"):
        build(dtype=dtype, storage="ephemeral")
    build(dtype=dtype, storage="tied")
    # Nor later on.
    weight = Parameter(torch.ones(2, 3))
    optimizer = DWFOptimizer([weight], 0.1, penalty=1e-3, storage="ephemeral")
    step_with(optimizer, {weight: torch.ones(2, 3)})
    weight.data = weight.data.to(dtype)
    with pytest.raises(TypeError, match="would lose small steps"):
        step_with(optimizer, {weight: torch.ones(2, 3, dtype=dtype)})
