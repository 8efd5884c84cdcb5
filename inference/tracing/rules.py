"""From operators of torch to layers: one rule an operator, in one table.

A rule gets the trace, the traced node and its arguments by name. It returns the layer, the name of a
value that is the result as it stands, or None where the layer cannot express what is asked; the
operator then stays one of torch.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import fx

from inference.graph import Activation, Add, Concat, Elementwise, Node, Ref, Reshape, Softmax, TorchOp
from inference.tracing import layer_rules
from inference.tracing.trace import Arguments, Trace

Rule = Callable[[Trace, fx.Node, Arguments], "Node | str | None"]


def _activation(kind: str, slope: str | None = None) -> Rule:
    def rule(trace: Trace, node: fx.Node, a: Arguments) -> Node | None:
        x = trace.value(a["self"])
        if x is None:
            return None
        activation = Activation(kind, float(a[slope]) if slope else 0.0)
        return Elementwise(**trace.header(node, x), activation=activation)

    return rule


def _clamp(trace: Trace, node: fx.Node, a: Arguments) -> Node | str | None:
    low, high = a.get("min_val", a.get("min")), a.get("max_val", a.get("max"))
    if low != 0 or high not in (None, 6):
        return None
    kind = "relu" if high is None else "relu6"
    return _activation(kind)(trace, node, a)


def _gelu(trace: Trace, node: fx.Node, a: Arguments) -> Node | str | None:
    return _activation("gelu_tanh" if a["approximate"] == "tanh" else "gelu")(trace, node, a)


def _reshape(trace: Trace, node: fx.Node, a: Arguments) -> Node | str | None:
    # With the batch first before and after, the rest keeps its order.
    x, shape = trace.value(a["self"]), trace.shape(node)
    if x is None or shape is None:
        return None
    return x if trace.shapes[x] == shape else Reshape(**trace.header(node, x), shape=shape)


def _add(trace: Trace, node: fx.Node, a: Arguments) -> Node | None:
    x, y = trace.value(a["self"]), trace.value(a["other"])
    if x is None or y is None or a["alpha"] != 1 or trace.shapes[x] != trace.shapes[y]:
        return None
    return Add(**trace.header(node, x, y))


def _concat(trace: Trace, node: fx.Node, a: Arguments) -> Node | None:
    values = [trace.value(item) for item in a["tensors"]]
    names = [name for name in values if name is not None]
    rank = len(trace.shape(node) or ()) + 1
    dim = a["dim"] % rank
    return (
        None if dim == 0 or len(names) < len(values) else Concat(**trace.header(node, *names), dim=dim)
    )


def _softmax(trace: Trace, node: fx.Node, a: Arguments) -> Node | None:
    x = trace.value(a["self"])
    if x is None or a.get("dtype") is not None or not trace.shapes[x]:
        return None
    dim = a["dim"] % (len(trace.shapes[x] or ()) + 1)
    return None if dim == 0 else Softmax(**trace.header(node, x), dim=dim)


def _layer_norm(trace: Trace, node: fx.Node, a: Arguments) -> Node | None:
    """Keep LayerNorm one of torch, but on the value as it is held."""
    x = trace.value(a["input"])
    weight, bias = trace.constant(a["weight"]), trace.constant(a["bias"])
    if x is None or len(a["normalized_shape"]) >= len(trace.shapes[x] or ()):
        return None
    args = (Ref(x), list(a["normalized_shape"]), weight, bias, a["eps"])
    return TorchOp(**trace.header(node, x), target="aten.layer_norm.default", args=args)


def _same(trace: Trace, node: fx.Node, a: Arguments) -> str | None:
    """Leave out what does nothing to a value: the graph has no aliases and no strides."""
    x = a.get("self", a.get("input"))
    if a.get("train", False) or a.get("training", False):
        return None
    return trace.held.get(x) if isinstance(x, fx.Node) else None


# What is the same whether the batch or the tokens come first.
SWAPPED_RULES: dict[str, Rule] = {
    "aten.linear.default": layer_rules.linear,
    "aten.relu.default": _activation("relu"),
    "aten.gelu.default": _gelu,
    "aten.silu.default": _activation("silu"),
    "aten.add.Tensor": _add,
    "aten.layer_norm.default": _layer_norm,
    "aten.dropout.default": _same,
    "aten.clone.default": _same,
    "aten.contiguous.default": _same,
    "aten.detach.default": _same,
    "aten.alias.default": _same,
}

RULES: dict[str, Rule] = {
    "aten.linear.default": layer_rules.linear,
    "aten.matmul.default": layer_rules.matmul,
    "aten.mm.default": layer_rules.matmul,
    "aten.addmm.default": layer_rules.addmm,
    "aten.conv2d.default": layer_rules.conv,
    "aten.conv2d.padding": layer_rules.conv,
    "aten.convolution.default": layer_rules.conv,
    "aten.batch_norm.default": layer_rules.batch_norm,
    "aten._native_batch_norm_legit_no_training.default": layer_rules.batch_norm,
    "aten.relu.default": _activation("relu"),
    "aten.relu6.default": _activation("relu6"),
    "aten.hardtanh.default": _clamp,
    "aten.clamp.default": _clamp,
    "aten.clamp_min.default": _clamp,
    "aten.leaky_relu.default": _activation("leaky_relu", "negative_slope"),
    "aten.gelu.default": _gelu,
    "aten.silu.default": _activation("silu"),
    "aten.sigmoid.default": _activation("sigmoid"),
    "aten.tanh.default": _activation("tanh"),
    "aten.max_pool2d.default": layer_rules.max_pool,
    "aten.avg_pool2d.default": layer_rules.avg_pool,
    "aten.adaptive_avg_pool2d.default": layer_rules.adaptive_avg_pool,
    "aten.mean.dim": layer_rules.mean,
    "aten.view.default": _reshape,
    "aten._unsafe_view.default": _reshape,
    "aten.reshape.default": _reshape,
    "aten.flatten.using_ints": _reshape,
    "aten.unflatten.int": _reshape,
    "aten.squeeze.default": _reshape,
    "aten.squeeze.dim": _reshape,
    "aten.squeeze.dims": _reshape,
    "aten.unsqueeze.default": _reshape,
    "aten.add.Tensor": _add,
    "aten.cat.default": _concat,
    "aten.softmax.int": _softmax,
    "aten._softmax.default": _softmax,
    "aten.dropout.default": _same,
    "aten.feature_dropout.default": _same,
    "aten.alpha_dropout.default": _same,
    "aten.feature_alpha_dropout.default": _same,
    "aten.clone.default": _same,
    "aten.contiguous.default": _same,
    "aten.detach.default": _same,
    "aten.alias.default": _same,
    "aten.lift_fresh_copy.default": _same,
}
