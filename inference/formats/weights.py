"""The CSR matrices of a whole model."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from inference.formats.registry import unwrap

# By type of module, the names of the weights that are matrices or filters, first the outputs.
WEIGHTS: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Linear: ("weight",),
    nn.Conv1d: ("weight",),
    nn.Conv2d: ("weight",),
    nn.Conv3d: ("weight",),
    nn.MultiheadAttention: ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"),
}


class CSRWeights(Mapping[str, Any]):
    """A model's weights as CSR matrices, by the names of the parameters, and how they go back.

    `inference.from_csr` makes dense tensors of all of them, which
    ``model.load_state_dict(..., strict=False)`` takes; `write_into` does both.

    Attributes:
        shapes: Of the dense weights, as ``(out, in, height, width)`` of a Conv2d; by the same names.

    Example:
        >>> weights = to_csr(model)
        >>> weights["0.weight"].nnz, weights.shapes["0.weight"]
        (4704, torch.Size([300, 784]))
        >>> weights.write_into(another_model)
    """

    def __init__(self, matrices: Mapping[str, Any], shapes: Mapping[str, torch.Size]) -> None:
        """Take what `inference.to_csr` has made.

        Args:
            matrices: Of one of the backends, ``[out, rest]``, by name.
            shapes: Of the dense weights, by the same names.
        """
        self._matrices = dict(matrices)
        self.shapes: Mapping[str, torch.Size] = MappingProxyType(dict(shapes))

    @override
    def __getitem__(self, name: str) -> Any:
        return self._matrices[name]

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._matrices)

    @override
    def __len__(self) -> int:
        return len(self._matrices)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}: {tuple(shape)}" for name, shape in self.shapes.items())
        return f"CSRWeights({shapes})"

    def write_into(self, model: nn.Module) -> None:
        """Write the dense weights into the parameters of these names; all, or none on an error.

        Args:
            model: With parameters of these names and shapes, on any device; the numbers are converted
                to their dtypes.

        Raises:
            ValueError: If a parameter is missing or of another shape.
        """
        parameters = dict(model.named_parameters(remove_duplicate=False))
        for name, shape in self.shapes.items():
            if name not in parameters:
                raise ValueError(f"the model has no parameter {name!r}")
            if parameters[name].shape != shape:
                raise ValueError(
                    f"parameter {name!r} has shape {tuple(parameters[name].shape)}, the weight that was "
                    f"converted {tuple(shape)}"
                )
        dense = {name: unwrap(matrix).to_dense(self.shapes[name]) for name, matrix in self.items()}
        with torch.no_grad():
            for name, weight in dense.items():
                parameters[name].copy_(weight)


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Find the parameters of a model that `inference.to_csr` converts.

    Args:
        model: Any module.

    Returns:
        The parameters by name; one that has several names under each of them.

    Raises:
        ValueError: If there are none, if one is not initialized yet, or is computed from others, as
            pruning and parametrizations do.
    """
    found: dict[str, Tensor] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        names = next((names for kind, names in WEIGHTS.items() if isinstance(module, kind)), ())
        for name in names:
            full = f"{path}.{name}" if path else name
            parameter = module._parameters.get(name)
            if isinstance(parameter, nn.parameter.UninitializedParameter):
                raise ValueError(f"{full!r} is not initialized yet; run the model on an example first")
            if parameter is not None:
                found[full] = parameter
            elif getattr(module, name, None) is not None:
                raise ValueError(
                    f"{full!r} is not a parameter but computed from others; make it one first, by "
                    "torch.nn.utils.prune.remove or parametrize.remove_parametrizations"
                )
    if not found:
        raise ValueError(
            f"{type(model).__name__} has no Linear, convolutional or MultiheadAttention modules; other "
            "weights convert one by one, as in to_csr(module.weight)"
        )
    return found
