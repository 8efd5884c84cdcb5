"""Recurrent layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from inference.onnx.nodes.arguments import Arguments, Emit
from inference.onnx.writer import Writer

# Where ONNX's gates are among torch's: update, reset, new; input, output, forget, cell.
GRU = (1, 0, 2)
LSTM = (0, 3, 1, 2)


def _recurrent(op: str, order: tuple[int, ...], states: int) -> Emit:
    """Make the rule for layers of one kind.

    Args:
        op: ONNX's name.
        order: Of the gates.
        states: How many there are beside the output.
    """

    def emit(w: Writer, a: Arguments) -> list[str]:
        tokens_first = [1, 0, 2]
        x = w.value(a["input"])
        if a["batch_first"]:
            x = w.emit("Transpose", x, perm=tokens_first)
        given = a["hx"] if isinstance(a["hx"], list) else [a["hx"]]
        directions = 2 if a["bidirectional"] else 1
        each = 4 if a["has_biases"] else 2
        ends: list[list[str]] = [[] for _ in range(states)]
        for layer in range(a["num_layers"]):
            first = layer * directions
            weights = [a["params"][each * k : each * (k + 1)] for k in range(first, first + directions)]
            made = w.emit_many(
                op,
                [
                    x,
                    w.constant(_stacked([group[0] for group in weights], order)),
                    w.constant(_stacked([group[1] for group in weights], order)),
                    w.constant(_biases(weights, order)) if a["has_biases"] else "",
                    "",
                    *(_rows(w, state, first, first + directions) for state in given),
                ],
                1 + states,
                hidden_size=weights[0][1].shape[1],
                direction="bidirectional" if directions == 2 else "forward",
                linear_before_reset=1 if op == "GRU" else None,
            )
            # [tokens, directions, batch, hidden] to [tokens, batch, directions * hidden]
            x = w.emit("Reshape", w.emit("Transpose", made[0], perm=[0, 2, 1, 3]), w.ints(0, 0, -1))
            for kept, end in zip(ends, made[1:], strict=True):
                kept.append(end)
        if a["batch_first"]:
            x = w.emit("Transpose", x, perm=tokens_first)
        joined = [end[0] if len(end) == 1 else w.emit("Concat", *end, axis=0) for end in ends]
        return [x, *joined]

    return emit


def _rows(w: Writer, state: Any, first: int, last: int) -> str:
    value = w.value(state)
    if w.kind(state).shape[0] == last - first:
        return value
    return w.emit("Slice", value, w.ints(first), w.ints(last), w.ints(0))


def _reordered(gates: Tensor, order: tuple[int, ...]) -> Tensor:
    parts = gates.chunk(len(order))
    return torch.cat([parts[k] for k in order])


def _stacked(weights: list[Tensor], order: tuple[int, ...]) -> Tensor:
    return torch.stack([_reordered(weight, order) for weight in weights])


def _biases(weights: list[list[Tensor]], order: tuple[int, ...]) -> Tensor:
    return torch.stack([torch.cat([_reordered(b, order) for b in group[2:4]]) for group in weights])


OPERATORS: dict[str, Emit] = {
    "aten.gru.input": _recurrent("GRU", GRU, 1),
    "aten.lstm.input": _recurrent("LSTM", LSTM, 2),
}
