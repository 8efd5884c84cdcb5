"""Which module of a model holds the tensors of each layer of its graph."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from inference.artifact.names import layout, storage
from inference.graph import BatchNorm, Conv2d, Graph, Linear
from inference.interpret import map_constants

# Such layers do not get smaller by themselves.
BY_HEADS = "attention loses whole heads"


class Owners(NamedTuple):
    """Where layers come from.

    Attributes:
        paths: For the output of a layer, the path of the module that can be resized.
        pinned: Values next to layers whose tensors cannot be, and why.
    """

    paths: dict[str, str]
    pinned: dict[str, str]


def find_owners(model: nn.Module, graph: Graph) -> Owners:
    """Find the modules whose parameters the layers of a graph are.

    Args:
        model: The model.
        graph: As `inference.capture.trace` gives it, of the model's own tensors.

    Returns:
        The modules; Linear, Conv2d and BatchNorm ones that nothing else shares a tensor with.
    """
    found: dict[Any, tuple[str, nn.Module]] = {}
    attention: set[Any] = set()
    for path, module in model.named_modules():
        tensor = _named_tensor(module)
        if tensor is not None and tensor.numel():
            found[_place(tensor)] = (path, module)
        if isinstance(module, nn.MultiheadAttention):
            attention.update(storage(x) for x in module.parameters(recurse=False))
    uses, held = _uses(graph), Counter(_parameters(model))
    owners = Owners({}, {})
    for node in graph.nodes:
        if not isinstance(node, Linear | Conv2d | BatchNorm):
            continue
        tensor = node.mean if isinstance(node, BatchNorm) else node.weight
        path, owner = found.get(_place(tensor), ("", None))
        if storage(tensor) in attention:
            why = BY_HEADS
        elif owner is None:
            why = f"the weight of {node.name!r} is no parameter of a Linear, Conv2d or BatchNorm module"
        elif any(uses[storage(x)] > 1 or held[id(x)] > 1 for x in owner.parameters(recurse=False)):
            why = f"the weight of {node.name!r} is used more than once"
        else:
            owners.paths[node.output] = path
            continue
        owners.pinned.update(dict.fromkeys((node.inputs[0], node.output), why))
    return owners


def _named_tensor(module: nn.Module) -> Tensor | None:
    """Return the tensor by which a module that can be resized is found."""
    # Not as attributes: what pruning or a parametrization computes is no parameter.
    if isinstance(module, nn.Linear | nn.Conv2d):
        return module._parameters.get("weight")
    return module._buffers.get("running_mean") if isinstance(module, _BatchNorm) else None


def _place(tensor: Tensor) -> Any:
    return storage(tensor), layout(tensor)


def _uses(graph: Graph) -> Counter[Any]:
    """Count by memory how often constants are used."""
    uses: Counter[Any] = Counter()

    def count(argument: Any) -> Any:
        if isinstance(argument, Tensor):
            uses[storage(argument)] += 1
        elif isinstance(argument, list | tuple):
            for item in argument:
                count(item)
        elif isinstance(argument, dict):
            count(list(argument.values()))
        return argument

    for node in graph.nodes:
        map_constants(node, count)
    return uses


def _parameters(model: nn.Module) -> list[int]:
    """List the parameters that each module holds; one twice if two modules hold it."""
    return [id(x) for module in model.modules() for x in module.parameters(recurse=False)]
