"""Which parameters of a model are factorized: parameter groups by module type."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from dwf_optim.penalty.scaling import scaled_penalties

# The matrices that sparse training is about. What is not listed stays dense unless asked for.
FACTORIZED_MODULES: tuple[type[nn.Module], ...] = (
    nn.Linear,
    nn.Bilinear,
    nn.modules.conv._ConvNd,
    nn.MultiheadAttention,
    nn.RNNBase,
    nn.RNNCellBase,
)
EMBEDDING_MODULES: tuple[type[nn.Module], ...] = (nn.Embedding, nn.EmbeddingBag)


def param_groups(
    model: nn.Module,
    *,
    penalty: float,
    depth: int = 3,
    include: Iterable[type[nn.Module] | str] = (),
    exclude: Iterable[type[nn.Module] | str] = (),
    penalty_scaling: str = "equal",
    per_layer: bool = False,
    **options: Any,
) -> list[dict[str, Any]]:
    """Split a model's parameters into factorized groups and a dense one.

    Factorized are the weights of linear, convolution, attention and recurrent modules. Biases,
    norms, embeddings, output heads tied to an embedding, and parameters of modules not known here
    stay dense.

    Args:
        model: The model.
        penalty: ``lambda`` of the factorized groups: the mean over their weights.
        depth: ``D`` of the factorized groups.
        include: Module types or full parameter names to factorize too.
        exclude: Module types or full parameter names to leave dense; wins over ``include``.
        penalty_scaling: How layers share the penalty: "equal", or so that it acts alike on weights
            relative to their layer's size, which is taken from the "fan_in" or measured as "sigma", the
            root mean square of the weights as they now are
            (`~dwf_optim.penalty.scaling.scaled_penalties`).
        per_layer: Whether every factorized tensor gets a group of its own, whose penalty can then be
            changed alone, as `~dwf_optim.LayerGuard` does. Without, tensors of one penalty share one.
        **options: Further options of the factorized groups (``init``, ``lr``, ...).

    Returns:
        Groups of named parameters, for `DWFOptimizer`: the factorized, then the dense one with depth 1
        and penalty 0. Either kind is left out where it has no parameters.

    Raises:
        ValueError: If a name in ``include`` or ``exclude`` is not a parameter of the model, or the
            scaling is unknown or has no size of a layer to go by.
    """
    chosen = factorizable(model, include, exclude)
    dense = [(name, p) for name, p in model.named_parameters() if name not in chosen]
    shared: dict[object, dict[str, Any]] = {}
    for name, own in scaled_penalties(chosen, penalty, depth, penalty_scaling).items():
        # What is listed here was chosen, so no second rule by dimensions.
        fresh = {"params": [], "depth": depth, "penalty": own, "min_ndim": 0, **options}
        group = shared.setdefault(name if per_layer else own, fresh)
        group["params"].append((name, chosen[name]))
    groups = list(shared.values())
    if dense:
        groups.append({"params": dense, "depth": 1, "penalty": 0.0})
    return groups


def factorizable(
    model: nn.Module,
    include: Iterable[type[nn.Module] | str] = (),
    exclude: Iterable[type[nn.Module] | str] = (),
) -> dict[str, Tensor]:
    """Return the parameters that `param_groups` factorizes, by name.

    Args:
        model: The model.
        include: As in `param_groups`.
        exclude: As in `param_groups`.

    Returns:
        Name to parameter, in the model's order.

    Raises:
        ValueError: As `param_groups`.
    """
    named = dict(model.named_parameters())
    include_types, include_names = _split(include, named, "include")
    exclude_types, exclude_names = _split(exclude, named, "exclude")
    # A tensor shared by modules (a tied head) belongs to all of them; one name stands for it.
    owners: dict[Tensor, list[nn.Module]] = {}
    for module in model.modules():
        for p in module.parameters(recurse=False):
            owners.setdefault(p, []).append(module)

    def is_chosen(name: str, p: Tensor) -> bool:
        modules = owners[p]
        if name in exclude_names or any(isinstance(m, exclude_types) for m in modules):
            return False
        if name in include_names or any(isinstance(m, include_types) for m in modules):
            return name in include_names or not _is_bias(name, p)
        if any(isinstance(m, EMBEDDING_MODULES) for m in modules):
            return False
        return any(isinstance(m, FACTORIZED_MODULES) for m in modules) and not _is_bias(name, p)

    return {name: p for name, p in named.items() if is_chosen(name, p)}


def _is_bias(name: str, p: Tensor) -> bool:
    # MultiheadAttention's bias_k and bias_v have three dimensions.
    return p.ndim < 2 or name.rpartition(".")[2].startswith("bias")


def _split(
    entries: Iterable[type[nn.Module] | str], named: Mapping[str, Tensor], argument: str
) -> tuple[tuple[type[nn.Module], ...], set[str]]:
    types, names = [], set()
    for entry in entries:
        if isinstance(entry, str):
            names.add(entry)
        else:
            types.append(entry)
    if unknown := sorted(names - named.keys()):
        raise ValueError(
            f"{argument} names no parameter of the model: {unknown}; use names as in "
            "model.named_parameters(), or module types"
        )
    return tuple(types), names
