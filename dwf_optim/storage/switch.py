"""A checkpoint of one storage, loaded by an optimizer that was built with another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from dwf_optim.roots import balanced_factors, nearest_root
from dwf_optim.sharding import local, local_state, place, place_state
from dwf_optim.state import ROOT, State, base_prefix, elementwise, get_base_states, put_base_states
from dwf_optim.storage import STORAGES
from dwf_optim.storage.parity import is_known, mirror_
from dwf_optim.structure import Structure, is_elementwise


@torch.no_grad()
def switch(
    groups: list[dict[str, Any]],
    saved_groups: list[dict[str, Any]],
    states: Mapping[Tensor, State],
    base: type[Optimizer],
) -> None:
    """Bring loaded state to the storage that the optimizer was built with, where that is exact.

    One root a weight can be written out as factors, or be taken from the weight. Factors that have each
    gone their way cannot be one root.

    Args:
        groups: The optimizer's.
        saved_groups: The checkpoint's, with this optimizer's parameters; changed to this storage.
        states: The checkpoint's, by parameter; changed in place. Weights must have been loaded before.
        base: The class of both their bases.

    Raises:
        ValueError: If it is not exact, or the checkpoint's weights share gates in other groups.
    """
    for group, saved in zip(groups, saved_groups, strict=True):
        _check_structure(saved.get("structure"), group["structure"])
        source, target = saved.get("storage", group["storage"]), group["storage"]
        if source == target:
            continue
        depth = saved["depth"]
        members = [p for p in saved["params"] if p in states and p.ndim >= saved["min_ndim"]]
        if depth > 1 and members:
            _check(source, target, depth, base)
            for p in members:
                _switch(p, states[p], source, target, depth)
        saved["storage"], saved["init"] = target, group["init"]


def _check_structure(source: Structure, target: Structure) -> None:
    if source != target and not (is_elementwise(source) and is_elementwise(target)):
        raise ValueError(
            f"the checkpoint has structure={source!r}, this optimizer structure={target!r}: the factors "
            "of one are not the other's; build it with that structure, or start anew from the weights"
        )


def _check(source: str, target: str, depth: int, base: type[Optimizer]) -> None:
    what = f"the checkpoint has storage={source!r}, this optimizer storage={target!r}"
    if source == "full":
        raise ValueError(
            f"{what}: factors went their own ways, which one root a weight cannot follow; build it with "
            "storage='full', or start anew from the weights"
        )
    if target == "full" and depth % 2 == 0 and not is_known(base):
        raise ValueError(
            f"{what}: at even depth {depth} the last factor's state is the mirror image of the others', "
            f"and what {base.__name__} keeps is not known; build it with storage={source!r}"
        )


def _switch(p: Tensor, state: State, source: str, target: str, depth: int) -> None:
    part, held = local(p).detach(), local_state(state)
    root = held[ROOT] if source == "tied" else nearest_root(part, depth)
    (view,) = get_base_states(held, (ROOT,))
    placed = {key: value for key, value in state.items() if key.startswith(base_prefix(ROOT))}
    state.clear()
    if target == "full":
        mode = STORAGES["full"]
        factors = balanced_factors(root, part, depth)
        views = [_copy(view) for _ in factors]
        if depth % 2 == 0:
            mirror_(views[-1], part.signbit())
        state.update(zip(mode.keys(depth), (place(factor, p) for factor in factors), strict=True))
        put_base_states(state, mode.parts(depth), [place_state(v, {}, p) for v in views])
        return
    if target == "tied":
        state[ROOT] = place(root, p)
    elif depth % 2 == 0 and any(isinstance(value, Tensor) for value in elementwise(view)):
        # Taken from the weight, the root is positive.
        mirror_(view, root < 0)
    state.update(placed)


def _copy(view: State) -> State:
    return {key: value.clone() if isinstance(value, Tensor) else value for key, value in view.items()}
