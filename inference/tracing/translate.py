"""Walks through an exported program and turns each operator into a constant, a layer or a `TorchOp`."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import ExportGraphSignature, InputKind

from inference.graph import Graph, TorchOp
from inference.operators import operator_name
from inference.tracing.rules import RULES, SWAPPED_RULES
from inference.tracing.trace import Trace

# The functional BatchNorm gives a tuple, of which only the first is read in inference.
BATCH_NORM = "aten._native_batch_norm_legit_no_training.default"


def translate(program: ExportedProgram, leaves: frozenset[str]) -> Graph:
    """Translate an exported program.

    Args:
        program: Functional, its inputs batched by one symbol.
        leaves: Paths of the model's modules that have no children; they give layers their names.

    Returns:
        The graph, its constants not yet copied.

    Raises:
        ValueError: If the program writes to buffers, returns other than tensors, or calls what is no
            operator.
    """
    signature = program.graph_signature
    _check_signature(program, signature)
    placeholders = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    targets = {spec.arg.name: spec.target for spec in signature.input_specs if spec.target is not None}
    given = [placeholders[str(name)] for name in signature.user_inputs]
    trace = Trace(given[0].meta["val"].shape[0].node.expr, targets, leaves)
    for spec in signature.input_specs:
        node = placeholders[spec.arg.name]
        if spec.kind == InputKind.USER_INPUT:
            trace.names[node] = node.name
            trace.shapes[node.name] = trace.shape(node)
        else:
            assert spec.target is not None
            tensors = program.state_dict if spec.target in program.state_dict else program.constants
            trace.constants[node] = tensors[spec.target].detach()
    for node in program.graph.nodes:
        if node.op == "call_function":
            _translate_node(trace, node)
    (results,) = next(node for node in program.graph.nodes if node.op == "output").args
    returned = [
        item
        for item, spec in zip(results, signature.output_specs, strict=True)
        if spec.kind.name == "USER_OUTPUT"
    ]
    outputs = tuple(_output(trace, item) for item in returned)
    return Graph(tuple(node.name for node in given), outputs, tuple(trace.nodes), trace.shapes)


def _check_signature(program: ExportedProgram, signature: ExportGraphSignature) -> None:
    if signature.buffers_to_mutate:
        changed = sorted(signature.buffers_to_mutate.values())
        raise ValueError(
            f"the model changes its buffers {changed} when it is called, which a graph cannot"
        )
    spec = program.call_spec.out_spec
    flat = spec.num_nodes == 1 or (spec.type in (tuple, list) and spec.num_nodes == 1 + spec.num_leaves)
    if not flat:
        raise ValueError(
            f"the model must return a tensor, or a tuple or list of tensors, got {spec.type}; wrap it "
            "in a module that takes out what is wanted"
        )


def _translate_node(trace: Trace, node: fx.Node) -> None:
    if all(source in trace.constants for source in node.all_input_nodes) and _is_deterministic(node):
        trace.constants[node] = _evaluate(trace, node)
        return
    target = operator_name(node.target) or ""
    source = node.args[0] if node.args else None
    if node.target is operator.getitem and isinstance(source, fx.Node):
        if operator_name(source.target) == BATCH_NORM and source in trace.names:
            trace.names[node] = trace.names[source]
            return
    elif _swaps(target, node) and isinstance(source, fx.Node):
        if source in trace.swapped:
            trace.names[node] = trace.swapped[source]
            return
        if trace.value(source) is not None:
            trace.swapped[node] = trace.names[source]
            return
    elif _apply(trace, node, target, swapped=True) or _apply(trace, node, target, swapped=False):
        return
    trace.torch_op(node)


def _apply(trace: Trace, node: fx.Node, target: str, *, swapped: bool) -> bool:
    """Translate by a rule; tells whether there is one that can."""
    rule = (SWAPPED_RULES if swapped else RULES).get(target)
    if rule is None or (swapped and not any(x in trace.swapped for x in node.all_input_nodes)):
        return False
    with trace.looking(swapped):
        made = rule(trace, node, _bind(node))
        if made is None:
            return False
        shape = trace.shape(node.all_input_nodes[0] if target == BATCH_NORM else node)
        trace.held[node] = made if isinstance(made, str) else trace.add(made, shape)
    return True


def _bind(node: fx.Node) -> dict[str, Any]:
    """Return an operator's arguments by name, with its defaults."""
    assert isinstance(node.target, torch._ops.OpOverload)
    bound = {}
    for position, argument in enumerate(node.target._schema.arguments):
        if position < len(node.args):
            bound[argument.name] = node.args[position]
        elif argument.name in node.kwargs:
            bound[argument.name] = node.kwargs[argument.name]
        else:
            bound[argument.name] = argument.default_value
    return bound


def _swaps(target: str, node: fx.Node) -> bool:
    """Tell whether an operator swaps the first two dimensions and does nothing else."""
    found = node.meta.get("val")
    if not isinstance(found, torch.Tensor) or found.dim() < 2:
        return False
    if target == "aten.transpose.int":
        return sorted(dim % found.dim() for dim in node.args[1:3]) == [0, 1]  # type: ignore[operator]
    if target == "aten.permute.default":
        order = [dim % found.dim() for dim in node.args[1]]  # type: ignore[union-attr, operator]
        return order == [1, 0, *range(2, found.dim())]
    return False


def _is_deterministic(node: fx.Node) -> bool:
    if isinstance(node.target, torch._ops.OpOverload):
        return torch.Tag.nondeterministic_seeded not in node.target.tags
    return operator_name(node.target) is not None


def _evaluate(trace: Trace, node: fx.Node) -> Any:
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda source: trace.constants[source])
    with torch.no_grad():
        return node.target(*args, **kwargs)  # type: ignore[operator]


def _output(trace: Trace, item: object) -> str:
    if isinstance(item, fx.Node) and isinstance(item.meta.get("val"), torch.Tensor):
        if item not in trace.constants:
            return trace.materialize(item)
        name = f"{item.name}.constant"
        if name not in trace.shapes:
            op = TorchOp(
                name=name,
                inputs=(),
                output=name,
                target="aten.clone.default",
                args=(trace.constants[item],),
            )
            trace.add(op, None)
        return name
    raise ValueError(f"the model must return tensors only, got {item!r} among its outputs")
