"""Rules for layers with weights and for pools: from operators of torch to `inference.graph`.

As in `inference.tracing.rules`, a rule gives None where the layer cannot express what is asked.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx

from inference.graph import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Linear,
    MaxPool2d,
    Node,
    Pair,
    Reshape,
)
from inference.tracing.padding import symmetric_padding
from inference.tracing.trace import Arguments, Trace


def _pair(value: Any) -> Pair:
    values = list(value) if isinstance(value, list | tuple) else [value]
    return (int(values[0]), int(values[-1]))


def _optional(trace: Trace, bias: object) -> tuple[bool, Tensor | None]:
    """Return whether a bias is a constant or none at all, and the constant."""
    constant = trace.constant(bias)
    return bias is None or constant is not None, constant


def linear(trace: Trace, node: fx.Node, a: Arguments) -> Node | None:
    """A product with a constant matrix."""
    x, weight = trace.value(a["input"]), trace.constant(a["weight"])
    known, bias = _optional(trace, a["bias"])
    if x is None or weight is None or weight.dim() != 2 or not known or not trace.shapes[x]:
        return None
    return Linear(**trace.header(node, x, weight=a["weight"]), weight=weight, bias=bias)


def matmul(trace: Trace, node: fx.Node, a: Arguments) -> Node | None:
    """The same, with the matrix the other way round."""
    x = trace.value(a["self"])
    other = a.get("other", a.get("mat2"))
    weight = trace.constant(other)
    if x is None or weight is None or weight.dim() != 2 or not trace.shapes[x]:
        return None
    return Linear(**trace.header(node, x, weight=other), weight=weight.t())


def addmm(trace: Trace, node: fx.Node, a: Arguments) -> Node | None:
    """A product and a bias at once."""
    x, weight, bias = trace.value(a["mat1"]), trace.constant(a["mat2"]), trace.constant(a["self"])
    if (
        x is None
        or weight is None
        or bias is None
        or bias.dim() != 1
        or a["alpha"] != 1
        or a["beta"] != 1
    ):
        return None
    if bias.shape[0] != weight.shape[1]:
        return None
    header = trace.header(node, x, weight=a["mat2"])
    return Linear(**header, weight=weight.t(), bias=bias)


def conv(trace: Trace, node: fx.Node, a: Arguments) -> Node | None:
    """A convolution with constant weights and the same zeros on both sides."""
    x, weight = trace.value(a["input"]), trace.constant(a["weight"])
    known, bias = _optional(trace, a["bias"])
    if x is None or weight is None or weight.dim() != 4 or not known or a.get("transposed", False):
        return None
    padding, dilation = a["padding"], _pair(a["dilation"])
    if padding == "same":
        found = _same_padding(weight, dilation)
        if found is None:
            return None
        weight, padding = found
    return Conv2d(
        **trace.header(node, x, weight=a["weight"]),
        weight=weight,
        bias=bias,
        stride=_pair(a["stride"]),
        padding=(0, 0) if padding == "valid" else _pair(padding),
        dilation=dilation,
        groups=a["groups"],
    )


def _same_padding(weight: Tensor, dilation: Pair) -> tuple[Tensor, Pair] | None:
    height, width = (step * (size - 1) for size, step in zip(weight.shape[2:], dilation, strict=True))
    # Where the sides differ, torch pads one more behind than in front.
    before = (height // 2, width // 2)
    return symmetric_padding(weight, dilation, before, (height - before[0], width - before[1]))


def batch_norm(trace: Trace, node: fx.Node, a: Arguments) -> Node | None:
    """BatchNorm by known statistics."""
    x = trace.value(a["input"])
    mean, var = trace.constant(a["running_mean"]), trace.constant(a["running_var"])
    has_weight, weight = _optional(trace, a["weight"])
    has_bias, bias = _optional(trace, a["bias"])
    if x is None or mean is None or var is None or not (has_weight and has_bias):
        return None
    if a.get("training", False):
        return None
    header = trace.header(node, x, weight=a["weight"])
    return BatchNorm(**header, mean=mean, var=var, weight=weight, bias=bias, eps=a["eps"])


def max_pool(trace: Trace, node: fx.Node, a: Arguments) -> Node | None:
    """A pool over images."""
    x = trace.value(a["self"])
    if x is None or len(trace.shapes[x] or ()) != 3:
        return None
    return MaxPool2d(
        **trace.header(node, x),
        kernel=_pair(a["kernel_size"]),
        stride=_pair(a["stride"] or a["kernel_size"]),
        padding=_pair(a["padding"]),
        dilation=_pair(a["dilation"]),
        ceil_mode=a["ceil_mode"],
    )


def avg_pool(trace: Trace, node: fx.Node, a: Arguments) -> Node | None:
    """A pool over images."""
    x = trace.value(a["self"])
    if x is None or len(trace.shapes[x] or ()) != 3:
        return None
    return AvgPool2d(
        **trace.header(node, x),
        kernel=_pair(a["kernel_size"]),
        stride=_pair(a["stride"] or a["kernel_size"]),
        padding=_pair(a["padding"]),
        ceil_mode=a["ceil_mode"],
        count_include_pad=a["count_include_pad"],
        divisor=a["divisor_override"],
    )


def adaptive_avg_pool(trace: Trace, node: fx.Node, a: Arguments) -> Node | None:
    """A pool over images."""
    x = trace.value(a["self"])
    if x is None or len(trace.shapes[x] or ()) != 3:
        return None
    return AdaptiveAvgPool2d(**trace.header(node, x), size=_pair(a["output_size"]))


def mean(trace: Trace, node: fx.Node, a: Arguments) -> Node | None:
    """A mean over both dimensions of images is a global pool."""
    x = trace.value(a["self"])
    if x is None or a["dtype"] is not None or len(trace.shapes[x] or ()) != 3:
        return None
    if sorted(dim % 4 for dim in a["dim"] or ()) != [2, 3]:
        return None
    header = trace.header(node, x)
    if a["keepdim"]:
        return AdaptiveAvgPool2d(**header, size=(1, 1))
    pooled = f"{node.name}.pool"
    channels = (trace.shapes[x] or ())[0]
    pool = AdaptiveAvgPool2d(name=header["name"] + ".pool", inputs=(x,), output=pooled, size=(1, 1))
    trace.add(pool, (channels, 1, 1))
    return Reshape(**{**header, "inputs": (pooled,)}, shape=(channels,))
