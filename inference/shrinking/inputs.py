"""Linear layers that take some features of the model's inputs only."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from typing_extensions import override

from inference.graph import Elementwise, Graph, Linear, Reshape
from inference.shrinking.resize import set_parameter


class SelectedLinear(nn.Linear):
    """A Linear that reads the features that it has weights to, out of more.

    Attributes:
        selected: Which these are, a buffer, ``[in_features]``.
    """

    selected: Tensor

    @override
    def forward(self, input: Tensor) -> Tensor:
        """Compute ``W x[selected] + b`` on the last dimension."""
        return super().forward(input.index_select(-1, self.selected))


def find_unread_inputs(graph: Graph, paths: Mapping[str, str]) -> dict[str, Tensor]:
    """Find Linear layers on a model's inputs that do not read all of these.

    Args:
        graph: The model's.
        paths: For the output of each layer, the path of its module.

    Returns:
        Masks of the features that are read, at least one, by the path of the module.
    """
    given, found = set(graph.inputs), {}
    for node in graph.nodes:
        if isinstance(node, Reshape | Elementwise) and node.inputs[0] in given:
            given.add(node.output)
        elif isinstance(node, Linear) and node.inputs[0] in given and node.output in paths:
            read = (node.weight != 0).any(0)
            if not read.all():
                read[0] |= not read.any()
                found[paths[node.output]] = read
    return found


def select_inputs_(model: nn.Module, path: str, read: Tensor) -> None:
    """Make a Linear a `SelectedLinear`, in place.

    Args:
        model: The model.
        path: Of the Linear in it; one of a subclass is left as it is.
        read: Mask over its features.
    """
    module = model.get_submodule(path)
    if type(module) is not nn.Linear:
        return
    weight, read = module.weight, read.to(module.weight.device)
    set_parameter(module, "weight", weight[:, read], weight)
    module.in_features = int(read.sum())
    module.__class__ = SelectedLinear
    module.register_buffer("selected", torch.nonzero(read).flatten())
