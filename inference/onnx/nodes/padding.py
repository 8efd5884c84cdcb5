"""Borders around a value."""

from __future__ import annotations

from inference.onnx.nodes.arguments import Arguments, Emit
from inference.onnx.writer import Writer

MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def _pad(w: Writer, a: Arguments) -> str:
    mode = MODES[a.get("mode", "constant")]
    rank, sides = w.rank(a["self"]), list(a["pad"])
    before, after = [0] * rank, [0] * rank
    # torch counts from the last dimension: left, right, top, bottom, and so on.
    for k in range(len(sides) // 2):
        before[rank - 1 - k], after[rank - 1 - k] = sides[2 * k], sides[2 * k + 1]
    inputs = [w.value(a["self"]), w.ints(*before, *after)]
    if mode == "constant":
        inputs.append(w.value(a["value"] or 0, w.result().dtype))
    return w.emit("Pad", *inputs, mode=mode)


OPERATORS: dict[str, Emit] = {
    "aten.pad.default": _pad,
    "aten.constant_pad_nd.default": _pad,
}
