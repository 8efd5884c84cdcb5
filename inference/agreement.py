"""Holds a compiled model against the model that it was made from, on real numbers.

``torch.export`` follows one way through a forward, so what depends on more than the shapes of the
inputs (values in Python, random numbers, whether a compiler looks on) can be captured wrongly without
a word. And a kernel may be wrong. Both show in the outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from inference.capture import evaluating
from inference.certificate import Certificate, Comparison
from inference.exact import without_fused_attention
from inference.graph import Graph, TorchOp
from inference.interpret import run, to_dtype
from inference.measure import repeat
from inference.operators import is_random

# What each kernel keeps to, norm-wise.
KERNELS = 1e-5
# Two orders of the same sums differ by about as much as either is off by rounding, and one such error
# is measured: float32 against float64. 16 leaves room for a draw that was small.
SPREAD = 16.0
SAMPLES = 4

Tensors = Sequence[Tensor]
Way = Callable[[Tensors], Tensors]


def certify_model(
    model: nn.Module, captured: Graph, compiled: Graph, example: Tensors, ways: Sequence[Way]
) -> tuple[Certificate, Certificate]:
    """Compare a model with the graph that was captured of it, and that with what runs it.

    All compute in float32 on the CPU, the model in eval mode; on up to 4 samples of the example, and on
    as many of standard normal numbers if the model takes them. Left out are outputs that are no
    floating-point numbers, and elements that are not finite in the model.

    Args:
        model: As it was captured.
        captured: What `inference.capture.capture` made of it.
        compiled: The same, or with rounded weights: what the ways should compute.
        example: One tensor for each input.
        ways: Each takes the inputs and returns the outputs.

    Returns:
        How far the ways are from the model, or, if weights were rounded, from ``compiled``; and how far
        ``compiled`` is from ``captured``.

    Raises:
        ValueError: If the model draws random numbers, or they differ by more than rounding explains: by
            output, more than ``1e-5 |y| + 16 |y32 - y64|`` in the 2-norm, where ``y32`` and ``y64`` are
            the captured graph's outputs in either precision.
    """
    wide = to_dtype(captured, torch.float64)
    by_ways, by_weights = Comparison(), Comparison()
    for inputs, expected in _batches(model, example):
        made = _floats(run(captured, inputs))
        _refuse_random(captured, inputs, made)
        exact = _floats(run(wide, [x.double() if x.is_floating_point() else x for x in inputs]))
        rounding = [_apart(x, y) for x, y in zip(exact, made, strict=True)]
        if problem := _disagreement(expected, made, rounding):
            raise ValueError(
                f"the model was captured as something else than it computes: {problem}. "
                f"{_likely_cause(model, inputs, expected, rounding)}. check=False lets it pass"
            )
        if compiled is not captured:
            expected = _floats(run(compiled, inputs))
            by_weights.add(made, expected)
        for way in ways:
            found = _floats(way(inputs))
            if problem := _disagreement(expected, found, rounding):
                raise ValueError(
                    f"the engine computes something else than torch: {problem}. This is an error in "
                    "inference, please report it. check=False lets it pass"
                )
            pairs = zip(expected, found, strict=True)
            by_ways.add(expected, [torch.where(y.isfinite(), z, y) for y, z in pairs])
    return by_ways.certificate, by_weights.certificate


def _refuse_random(graph: Graph, inputs: Tensors, made: Tensors) -> None:
    """Raise an error for a graph whose outputs are other ones when it runs again.

    Its difference from float64 would be taken for rounding.
    """
    # Attention may draw, too, but only if it is told to drop out.
    may_draw = [node for node in graph.nodes if isinstance(node, TorchOp) and is_random(node.target)]
    if may_draw and _disagreement(made, _floats(run(graph, inputs)), [0.0] * len(made)):
        names = ", ".join(f"{node.name!r} ({node.target})" for node in may_draw)
        raise ValueError(
            f"the model draws random numbers in eval mode too, in {names}; so does F.dropout unless it "
            "is told training=self.training. No two calls compute the same. check=False lets it pass"
        )


def _batches(model: nn.Module, example: Tensors) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """Draw inputs, and what the model makes of them."""
    given = [_in_float32(x[:SAMPLES]).contiguous() for x in example]
    # Zeros that are skipped keep a NaN from where the dense model takes it.
    if all(bool(x.isfinite().all()) for x in given):
        yield given, _call(model, given)
    generator = torch.Generator().manual_seed(0)
    drawn = [
        torch.randn(SAMPLES, *x.shape[1:], generator=generator)
        if x.is_floating_point()
        else repeat(x, SAMPLES)
        for x in given
    ]
    try:
        expected = _call(model, drawn)
    except Exception:  # a model whose inputs hold, say, positions
        return
    yield drawn, expected


def _in_float32(x: Tensor) -> Tensor:
    x = x.detach().cpu()
    return x.float() if x.is_floating_point() else x


def _call(model: nn.Module, inputs: Tensors) -> list[Tensor]:
    """Run a model in float32 on the CPU."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    converted = {name: _in_float32(tensor) for name, tensor in tensors.items()}
    with without_fused_attention(), evaluating(model):
        if all(tensors[name].data_ptr() == tensor.data_ptr() for name, tensor in converted.items()):
            made = model(*inputs)
        else:
            made = functional_call(model, converted, tuple(inputs))
    return _floats([made] if isinstance(made, Tensor) else made)


def _floats(outputs: Tensors) -> list[Tensor]:
    # Others may jump by a rounding error, as the index of the largest does.
    return [y for y in outputs if y.is_floating_point()]


def _apart(expected: Tensor, found: Tensor) -> float:
    """Return the norm of a difference, where the first is finite."""
    return float(torch.where(expected.isfinite(), found.double() - expected.double(), 0).norm())


def _disagreement(expected: Tensors, found: Tensors, rounding: Sequence[float]) -> str:
    """Describe the first output that differs by more than rounding explains; "" if none does."""
    for k, (y, z, rounded) in enumerate(zip(expected, found, rounding, strict=True)):
        size = float(torch.where(y.isfinite(), y.double(), 0).norm())
        apart = _apart(y, z)
        # A model may return what it rounds to 16 bits itself.
        coarser = max(1.0, torch.finfo(y.dtype).eps / torch.finfo(torch.float32).eps)
        allowed = KERNELS * coarser * size + SPREAD * rounded
        if not apart <= allowed:  # a NaN is no agreement
            return (
                f"output {k} of norm {size:.3g} differs by {apart:.3g}, rounding explains {allowed:.1g}"
            )
    return ""


def _likely_cause(
    model: nn.Module, inputs: Tensors, expected: Tensors, rounding: Sequence[float]
) -> str:
    if _disagreement(expected, _call(model, inputs), rounding):
        return "Called again, the model itself gives other outputs: it keeps state"
    return (
        "Its forward must not depend on what torch.export sees only once, such as values in Python or "
        "torch.compiler.is_compiling()"
    )
