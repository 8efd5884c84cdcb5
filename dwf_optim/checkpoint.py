"""Loading an optimizer checkpoint without changing a bit of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from torch import Tensor

from dwf_optim.sharding import cut, is_sharded, place
from dwf_optim.state import FORMAT, State, is_of_weight, is_per_tensor

Groups = list[dict[str, Any]]


def unpack(groups: Groups, state_dict: Mapping[str, Any]) -> tuple[dict[Tensor, State], Groups]:
    """Attach a checkpoint to an optimizer's parameters.

    Torch's own loading casts floating state to the parameter's dtype, which rounds the float32 factors
    of a half-precision model, and shares step counters with the checkpoint. Here everything is copied
    in the dtype it was saved in.

    Args:
        groups: The optimizer's parameter groups.
        state_dict: From `state_dict` of a `DWFOptimizer`, or of its base; not changed.

    Returns:
        The state by parameter, and the groups with this optimizer's parameters.

    Raises:
        ValueError: If its groups have other sizes, its format is newer than this version's, its base
            is another, or its factors are of parameters of another shape.
    """
    saved_groups: Groups = deepcopy(state_dict["param_groups"])
    sizes, saved_sizes = ([len(g["params"]) for g in some] for some in (groups, saved_groups))
    if sizes != saved_sizes:
        raise ValueError(
            f"the checkpoint's groups hold {saved_sizes} parameters, this optimizer's {sizes}: build it "
            "over the same parameters and groups"
        )
    newest = max((saved.get("format", FORMAT) for saved in saved_groups), default=FORMAT)
    if newest > FORMAT:
        raise ValueError(
            f"the checkpoint has format {newest}, this version of dwf-optim reads up to {FORMAT}: "
            "upgrade dwf-optim to the version that saved it"
        )
    for group, saved in zip(groups, saved_groups, strict=True):
        base = group["base_name"]
        if saved.get("base_name", base) != base:
            raise ValueError(
                f"the checkpoint's base is {saved['base_name']}, this optimizer's {base}, whose state "
                f"is another: build it with base={saved['base_name']}"
            )
    parameters: dict[int, Tensor] = {}
    counts_on_device: set[Tensor] = set()
    for group, saved in zip(groups, saved_groups, strict=True):
        parameters.update(zip(saved["params"], group["params"], strict=True))
        saved["params"] = group["params"]
        if saved.get("capturable") or saved.get("fused"):
            counts_on_device.update(group["params"])
        if "param_names" in group:
            saved.setdefault("param_names", group["param_names"])
    state: defaultdict[Tensor, State] = defaultdict(dict)
    for index, values in state_dict["state"].items():
        if index not in parameters:
            state[index] = deepcopy(values)  # a hook's own, which torch keeps too
            continue
        p = parameters[index]
        own = state[p]
        for key, value in values.items():
            if is_of_weight(key) and value.shape != p.shape:
                # A product of such factors would be written to the parameter, and its shape with it.
                raise ValueError(
                    f"the checkpoint's {key} of parameter number {index} has shape {tuple(value.shape)},"
                    f" this optimizer's parameter {tuple(p.shape)}: load it into an optimizer of the "
                    "same model, built with its parameters in the same order"
                )
            copied = _copy(key, value, p)
            if p in counts_on_device and is_per_tensor(key) and isinstance(copied, Tensor):
                copied = copied.to(p.device)  # saved from, or mapped to, a CPU
            own[key] = copied
    return state, saved_groups


def is_plain(groups: Groups) -> bool:
    """Say whether checkpoint groups are those of an optimizer that knows no factors."""
    return not any("depth" in group for group in groups)


def _is_cut_like(value: Tensor, p: Tensor) -> bool:
    """Say whether a value has a parameter's shape, or that of gates: 1 wherever it is another."""
    return value.ndim == p.ndim and all(
        size in (1, of_p) for size, of_p in zip(value.shape, p.shape, strict=True)
    )


def _copy(key: str, value: Any, p: Tensor) -> Any:
    if not isinstance(value, Tensor):
        return deepcopy(value)
    # Numbers kept once per tensor (a step counter) stay where the base keeps them.
    if is_per_tensor(key) or value.ndim == 0 < p.ndim:
        return value.clone()
    if is_sharded(p) != is_sharded(value) and _is_cut_like(value, p):
        # From one process to shards, or back.
        return place(cut(value.to(p.device), p).clone(), p, value.shape)
    return value.to(device=p.device, copy=True)
