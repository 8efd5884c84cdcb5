"""Pools.

ONNX and its runtimes differ from torch, and among themselves, in what ``ceil_mode`` counts, so it is
never used: a pool of largest values is padded as far as its last window reaches, and a pool of means
that ONNX cannot say becomes two products with matrices of windows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from inference.graph import AdaptiveAvgPool2d, AvgPool2d, MaxPool2d, Node
from inference.lowering.windows import Window, adaptive_spans, mean_spans
from inference.onnx.writer import Writer


def max_pool(w: Writer, node: MaxPool2d) -> str:
    """Write the largest of each window."""
    x = w.value(node.inputs[0])
    ends = []
    for d, (size, outputs) in enumerate(_sizes(w, node)):
        reach = (outputs - 1) * node.stride[d] + node.dilation[d] * (node.kernel[d] - 1) + 1
        ends.append(max(node.padding[d], reach - size - node.padding[d]))
    pads = [*node.padding, *ends]
    if any(pad >= node.kernel[d % 2] for d, pad in enumerate(pads)):
        # Runtimes refuse padding as wide as the window, which dilation may ask for.
        x = w.emit("Pad", x, w.ints(0, 0, *pads[:2], 0, 0, *pads[2:]), w.value(-torch.inf))
        pads = [0, 0, 0, 0]
    return w.emit(
        "MaxPool",
        x,
        kernel_shape=list(node.kernel),
        strides=list(node.stride),
        pads=pads,
        dilations=list(node.dilation),
    )


def avg_pool(w: Writer, node: AvgPool2d) -> str:
    """Write the mean of each window."""
    if node.divisor is None and not node.ceil_mode:
        return w.emit(
            "AveragePool",
            w.value(node.inputs[0]),
            kernel_shape=list(node.kernel),
            strides=list(node.stride),
            pads=[*node.padding, *node.padding],
            count_include_pad=int(node.count_include_pad),
        )
    windows = [
        mean_spans(
            size, outputs, node.kernel[d], node.stride[d], node.padding[d], node.count_include_pad
        )
        for d, (size, outputs) in enumerate(_sizes(w, node))
    ]
    if node.divisor is not None:
        divisors = (float(node.divisor), 1.0)
        windows = [
            [(first, count, divisor) for first, count, _ in along]
            for along, divisor in zip(windows, divisors, strict=True)
        ]
    return _products(w, node, windows)


def adaptive_avg_pool(w: Writer, node: AdaptiveAvgPool2d) -> str:
    """Write the mean of windows that cover the image."""
    sizes = _sizes(w, node)
    if all(outputs == 1 for _, outputs in sizes):
        return w.emit("GlobalAveragePool", w.value(node.inputs[0]))
    if all(size % outputs == 0 for size, outputs in sizes):
        kernel = [size // outputs for size, outputs in sizes]
        return w.emit("AveragePool", w.value(node.inputs[0]), kernel_shape=kernel, strides=kernel)
    return _products(w, node, [adaptive_spans(size, outputs) for size, outputs in sizes])


def _products(w: Writer, node: Node, windows: list[list[Window]]) -> str:
    (height, _), (width, _) = _sizes(w, node)
    rows, columns = _matrix(windows[0], height), _matrix(windows[1], width)
    x = w.emit("MatMul", w.value(node.inputs[0]), w.constant(columns.t().contiguous()))
    return w.emit("MatMul", w.constant(rows), x)


def _matrix(windows: list[Window], size: int) -> Tensor:
    """Return what to multiply inputs with for the means of windows."""
    matrix = torch.zeros(len(windows), size)
    for row, (first, count, divisor) in zip(matrix, windows, strict=True):
        row[first : first + count] = 1 / divisor if count else 0
    return matrix


def _sizes(w: Writer, node: Node) -> list[tuple[int, int]]:
    before, after = w.graph.shapes[node.inputs[0]], w.graph.shapes[node.output]
    assert before is not None
    assert after is not None
    return [(before[1], after[1]), (before[2], after[2])]


LAYERS: dict[type[Node], Callable[[Writer, Any], str]] = {
    MaxPool2d: max_pool,
    AvgPool2d: avg_pool,
    AdaptiveAvgPool2d: adaptive_avg_pool,
}
