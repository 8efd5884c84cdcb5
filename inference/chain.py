"""A chain of linear layers held as CSR matrices and run on a batch."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from inference.formats import CSRArrays, find_backend

Batch = TypeVar("Batch", np.ndarray[Any, Any], Tensor)


class Layer(NamedTuple):
    """One linear layer of a chain.

    Attributes:
        weight: CSR arrays of shape ``(out, in)``.
        bias: tensor ``[out, 1]``, or None.
        relu: whether a ReLU follows.
    """

    weight: CSRArrays
    bias: Tensor | None
    relu: bool


class CSRChain:
    """Runs a chain of linear layers and ReLUs with a library's CSR product, on the CPU.

    Activations are feature-major inside, ``[features, batch]``: a CSR matrix times such an array
    reads memory in order, where the batch-major product would gather.

    Example:
        >>> model = nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 10))
        >>> chain = CSRChain.from_sequential(model)
        >>> chain(torch.zeros(64, 784)).shape
        torch.Size([64, 10])
    """

    def __init__(self, layers: Sequence[Layer], backend: str = "scipy") -> None:
        """Wraps the layers in the backend's matrices.

        Args:
            layers: at least one, of one dtype (float32 or float64), each as wide as the one before.
            backend: "scipy" or "torch".

        Raises:
            ImportError: if the backend's library is not installed.
            ValueError: if ``backend`` is unknown.
        """
        self.layers = tuple(layers)
        self.backend = backend
        self.dtype = self.layers[0].weight.values.dtype
        self.in_features = self.layers[0].weight.shape[1]
        wrap = find_backend(backend).wrap
        self._matrices = [wrap(layer.weight) for layer in self.layers]
        # SciPy multiplies NumPy arrays, every other backend tensors.
        self._in_numpy = backend == "scipy"
        self._biases = [
            layer.bias.numpy() if self._in_numpy and layer.bias is not None else layer.bias
            for layer in self.layers
        ]

    def __reduce__(self) -> tuple[type["CSRChain"], tuple[tuple[Layer, ...], str]]:
        """Copies and pickles by the plain arrays: torch's CSR tensors cannot be copied."""
        return CSRChain, (self.layers, self.backend)

    @classmethod
    def from_sequential(cls, model: nn.Sequential, backend: str = "scipy") -> "CSRChain":
        """Builds the chain that computes what ``model.eval()`` does.

        Args:
            model: Linear, ReLU and Flatten modules, also in nested Sequentials; Dropout and
                Identity are dropped. Weights are copied.
            backend: "scipy" or "torch".

        Returns:
            The chain.

        Raises:
            ImportError: if the backend's library is not installed.
            TypeError: if a module is not supported or weights are not all float32 or all float64.
            ValueError: if the modules do not form a chain or ``backend`` is unknown.
        """
        layers: list[Layer] = []
        for path, module in _walk(model):
            if isinstance(module, nn.Linear):
                layers.append(_convert(path, module, layers))
            elif not layers:
                raise ValueError(f"module {path!r} is a ReLU before the first Linear")
            else:
                layers[-1] = layers[-1]._replace(relu=True)
        if not layers:
            raise ValueError("the model holds no Linear module")
        return cls(layers, backend)

    @property
    def nbytes(self) -> int:
        """Bytes of the values, column ids, row pointers and biases of all layers."""
        biases = sum(layer.bias.nbytes for layer in self.layers if layer.bias is not None)
        return biases + sum(layer.weight.nbytes for layer in self.layers)

    def __call__(self, batch: Batch) -> Batch:
        """Computes the outputs of a batch.

        They equal the dense model's within rounding, for finite inputs: a weight of zero is not
        multiplied, so a NaN or inf in the batch reaches only the outputs it has a weight to.

        Args:
            batch: NumPy array or CPU tensor ``[batch, in_features]`` of the weights' dtype; it is
                left as it is.

        Returns:
            An array of the kind and dtype of ``batch``, ``[batch, out_features]``.

        Raises:
            TypeError: if ``batch`` is of another kind or dtype.
            ValueError: if ``batch`` has another shape or is not on the CPU.
        """
        self._check(batch)
        # A copy even of a batch of one: torch.from_numpy would warn of an array that is read-only.
        inputs = (
            torch.from_numpy(np.array(batch.T, order="C"))
            if isinstance(batch, np.ndarray)
            else batch.detach().t().contiguous()
        )
        activations: Any = inputs.numpy() if self._in_numpy else inputs
        for layer, matrix, bias in zip(self.layers, self._matrices, self._biases, strict=True):
            activations = matrix @ activations
            if bias is not None:
                activations += bias
            if layer.relu:
                activations = activations.clip(0)
        outputs = torch.as_tensor(activations).t().contiguous()
        return outputs.numpy() if isinstance(batch, np.ndarray) else outputs

    def _check(self, batch: object) -> None:
        if not isinstance(batch, np.ndarray | Tensor):
            raise TypeError(f"batch must be a NumPy array or torch tensor, got {type(batch).__name__}")
        expected, got = (str(dtype).removeprefix("torch.") for dtype in (self.dtype, batch.dtype))
        if got != expected:
            raise TypeError(f"batch has dtype {got}, the weights {expected}; convert one of them")
        if batch.ndim != 2 or batch.shape[1] != self.in_features:
            raise ValueError(
                f"batch must have shape [batch, {self.in_features}], got {tuple(batch.shape)}"
            )
        if isinstance(batch, Tensor) and batch.device.type != "cpu":
            raise ValueError(f"batch is on {batch.device}; the chain runs on the CPU: batch.cpu()")


def _walk(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yields the Linear and ReLU modules in the order in which they run."""
    if _computes_as(module, nn.Sequential):
        # named_children would yield a module that is used twice only once.
        for name, child in module._modules.items():
            if child is not None:
                yield from _walk(child, f"{path}.{name}" if path else name)
    elif _computes_as(module, nn.Linear, nn.ReLU):
        yield path, module
    elif isinstance(module, nn.Flatten) and module.start_dim == 1 and module.end_dim == -1:
        return  # Batches come in flat.
    elif not _computes_as(module, nn.Dropout, nn.Identity):
        raise TypeError(
            f"module {path!r} is not supported: {module}; a chain is a Sequential of Linear, ReLU, "
            "Flatten(1, -1), Dropout and Identity"
        )


def _computes_as(module: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Tells whether the module is of one of the kinds and, as a subclass, has their forward."""
    return any(isinstance(module, kind) and type(module).forward is kind.forward for kind in kinds)


def _convert(path: str, module: nn.Linear, before: Sequence[Layer]) -> Layer:
    """Copies a Linear, checking that it fits the layers before it."""
    dtype = before[0].weight.values.dtype if before else module.weight.dtype
    if module.weight.dtype != dtype or dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"module {path!r} has weights of {module.weight.dtype}; all must be float32 or all float64"
        )
    if before and before[-1].weight.shape[0] != module.in_features:
        raise ValueError(
            f"module {path!r} takes {module.in_features} features, the Linear before it gives "
            f"{before[-1].weight.shape[0]}"
        )
    bias = None if module.bias is None else module.bias.detach().cpu().clone()[:, None]
    return Layer(CSRArrays.from_dense(module.weight.cpu()), bias, relu=False)
