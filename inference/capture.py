"""From a torch model to a layer graph, by `torch.export`."""

from __future__ import annotations

import inspect
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from inference.fuse import fuse
from inference.graph import Graph, Shape
from inference.interpret import to_dtype
from inference.tracing.attention import batch_first_attention
from inference.tracing.trace import FLOAT_DTYPES
from inference.tracing.translate import translate


def capture(model: nn.Module, example: Tensor | Sequence[Tensor]) -> Graph:
    """Turn a model's inference into a graph of layers.

    The model is traced in eval mode, without gradients, with any number of examples in a batch.
    BatchNorm is folded, activations are fused, Dropout and what only copies is left out, and what
    depends on parameters alone (masks, parametrizations) is computed now. What has no layer in
    `inference.graph` becomes a `TorchOp`.

    Args:
        model: With dense parameters in float16, bfloat16, float32 or float64; left as it is, its mode
            included. Its outputs: a tensor, or a tuple or list of tensors.
        example: The model's positional arguments, tensors ``[batch, ...]`` of the shapes and dtypes
            that it will get; what they hold does not matter, and any batch size from 1 will do.

    Returns:
        The graph. All its floating-point constants are float32 copies on the CPU, and it computes in
        float32 throughout, whatever the model's dtype.

    Raises:
        TypeError: If the model is not a module with dense parameters, or the example not of tensors.
        ValueError: If the model has no parameters, cannot be traced for any batch size (the module at
            fault is named), or keeps state between calls.
    """
    return prepare(trace(model, example).graph)


class InputSpec(NamedTuple):
    """One input of a model.

    Attributes:
        shape: Without the batch.
        dtype: As in the example.
    """

    shape: Shape
    dtype: torch.dtype


class Traced(NamedTuple):
    """A model as it was traced.

    Attributes:
        graph: Layer by layer, nothing folded or fused; its constants are in the model's dtypes, and
            where they can be they are the model's own tensors or views of these.
        inputs: What the graph takes.
    """

    graph: Graph
    inputs: tuple[InputSpec, ...]


def trace(model: nn.Module, example: Tensor | Sequence[Tensor]) -> Traced:
    """Turn a model's inference into a graph of the model's own tensors.

    Args:
        model: As `capture` takes it.
        example: As `capture` takes it.

    Returns:
        What `prepare` makes into the graph that `capture` returns.

    Raises:
        TypeError: As `capture` does.
        ValueError: As `capture` does.
    """
    model = getattr(model, "_orig_mod", model)  # Of torch.compile
    _check_model(model)
    inputs = _check_example(example)
    program = _export(model, inputs)
    modules = dict(model.named_modules())
    leaves = frozenset(path for path in modules if path and not any(modules[path].children()))
    specs = tuple(InputSpec(tuple(x.shape[1:]), x.dtype) for x in inputs)
    return Traced(translate(program, leaves), specs)


def prepare(graph: Graph) -> Graph:
    """Fold, fuse and convert a graph as it was traced.

    Args:
        graph: From `trace`, or the same out of a file.

    Returns:
        The graph that computes the same in float32, on the CPU, and shares no tensor with the first.
    """
    return to_dtype(fuse(graph), torch.float32)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model in eval mode, without gradients, autocast and warnings, while the context lasts.

    Args:
        model: Each of its modules gets its own mode back.
    """
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        # torch warns of its own deprecations, and of attributes that it sets back itself.
        off = torch.autocast("cpu", enabled=False)
        with torch.no_grad(), off, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def _check_model(model: object) -> None:
    if not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule):
        raise TypeError(f"model must be a torch.nn.Module in Python, got {type(model).__name__}")
    parameters = dict(model.named_parameters())
    for name, tensor in (*parameters.items(), *model.named_buffers()):
        if nn.parameter.is_lazy(tensor):
            raise TypeError(f"parameter {name!r} has no shape yet; call the model on a batch first")
        if type(tensor) not in (Tensor, nn.Parameter, nn.Buffer) or tensor.layout != torch.strided:
            kind = tensor.layout if type(tensor) is nn.Parameter else type(tensor).__name__
            raise TypeError(f"{name!r} must be a dense tensor, got {kind}; convert it, as by to_dense()")
        if tensor.is_quantized or (name in parameters and tensor.dtype not in FLOAT_DTYPES):
            raise TypeError(f"{name!r} has dtype {tensor.dtype}; quantized weights are not supported")
        if tensor.is_meta:
            raise TypeError(f"{name!r} is on the meta device; load the weights first")
    if not parameters:
        raise ValueError("the model has no parameters, so there is nothing to make sparse")


def _check_example(example: object) -> tuple[Tensor, ...]:
    """Return one tensor an argument, all of one batch size above 1."""
    tensors = (example,) if isinstance(example, Tensor) else example
    if not isinstance(tensors, list | tuple) or not all(isinstance(x, Tensor) for x in tensors):
        raise TypeError(f"example must be a tensor or a tuple of tensors, got {type(example).__name__}")
    shapes = [tuple(x.shape) for x in tensors]
    if not shapes or any(len(shape) == 0 or shape[0] == 0 for shape in shapes):
        raise ValueError(
            f"example must hold tensors [batch, ...] with a batch of 1 or more, got {shapes}"
        )
    if len({shape[0] for shape in shapes}) > 1:
        raise ValueError(
            f"example's tensors must have one batch size, got shapes {shapes}; what has no batch "
            "belongs in the model, as a buffer"
        )
    # A batch of one would be taken for a size that never changes.
    return tuple(torch.cat((x, x)) if x.shape[0] == 1 else x for x in tensors)


def _export(model: nn.Module, inputs: tuple[Tensor, ...]) -> ExportedProgram:
    device = next(model.parameters()).device
    inputs = tuple(x.detach().to(device) for x in inputs)
    try:
        with evaluating(model), batch_first_attention(model):
            program = torch.export.export(
                model, inputs, dynamic_shapes=_open_batch(model, inputs), strict=False
            )
            # With an empty table this only replaces operators that write in place.
            functional: ExportedProgram = program.run_decompositions({})
            return functional
    except Exception as error:  # Anything may go wrong in a model's own code.
        raise _explain(error, model) from error


def _open_batch(model: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[object, ...]:
    """Say of each of forward's parameters that its batch may be of any size; ``*xs`` is one of them."""
    batch = {0: Dim("batch", min=1)}
    given = inspect.signature(model.forward).bind(*inputs).arguments.values()
    return tuple((batch,) * len(x) if isinstance(x, tuple) else batch for x in given)


def _explain(error: Exception, model: nn.Module) -> ValueError:
    """Say which module could not be traced."""
    paths = {id(module): path for path, module in model.named_modules()}
    path = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        found = paths.get(id(frame.f_locals.get("self")))
        path = found or path
    place = f"module {path!r}" if path else "the model"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = " ".join(lines[:2]).rstrip(".")  # The rest is advice for users of torch.export.
    return ValueError(
        f"{place} cannot be captured for any batch size; torch.export says {type(error).__name__}: "
        f"{reason}. Control flow must not depend on data or on the batch size, and the first "
        "dimension of every input must be the batch"
    )
