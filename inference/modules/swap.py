"""A model with CSR weights in place of dense ones."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

from torch import nn

from inference.modules.conv2d import SparseConv2d
from inference.modules.linear import SparseLinear

# How each type of module is copied. Exact types: a subclass may compute something else, or be looked
# into by its parent, as torch.nn.MultiheadAttention does.
SWAPS: dict[type[nn.Module], Callable[[Any, str], nn.Module]] = {
    nn.Linear: SparseLinear.from_linear,
    nn.Conv2d: SparseConv2d.from_conv,
}


def sparse_modules(model: nn.Module, backend: str = "torch", *, min_sparsity: float = 0.5) -> nn.Module:
    """Copy a model, with `SparseLinear` and `SparseConv2d` for its sparse Linear and Conv2d modules.

    The swapped modules' dense weights are not copied. Subclasses of Linear and Conv2d stay as they are.

    Args:
        model: Left as it is.
        backend: "torch", "scipy", "torch_sparse" or "native" (the engine, in float32).
        min_sparsity: Modules with a smaller fraction of zeros stay dense. Below one half, CSR takes more
            memory than dense in float32.

    Returns:
        The copy, in eval mode, its remaining parameters without gradients. Warns if no module was
        swapped.

    Raises:
        ImportError: If the backend's library is not installed.
        TypeError: If ``model`` is no module, or the backend does not compute in a module's dtype.
        ValueError: If the backend is unknown, or a module to be swapped has hooks, which would be lost.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    found = {name: module for name, module in model.named_modules() if type(module) in SWAPS}
    # What deepcopy takes for the copies that it has already made.
    swapped: dict[int, Any] = {}
    for name, module in found.items():
        if _sparsity(module) < min_sparsity:
            continue
        if module._forward_hooks or module._forward_pre_hooks:
            raise ValueError(
                f"module {name!r} has forward hooks, which its copy would lose; remove them first "
                "(pruning: torch.nn.utils.prune.remove)"
            )
        try:
            swapped[id(module)] = SWAPS[type(module)](module, backend)
        except TypeError as error:
            raise TypeError(f"module {name!r}: {error}") from error
    if not swapped:
        most = max(map(_sparsity, found.values()), default=0.0)
        warnings.warn(
            f"no module was swapped: of {len(found)} Linear and Conv2d modules the sparsest has "
            f"{most:.0%} zeros, and min_sparsity is {min_sparsity}",
            stacklevel=2,
        )
    made: nn.Module = copy.deepcopy(model, swapped)
    return made.eval().requires_grad_(False)


def _sparsity(module: nn.Module) -> float:
    weight: Any = module.weight
    return 1 - int(weight.count_nonzero()) / max(1, int(weight.numel()))
