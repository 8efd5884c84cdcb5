"""Which inputs are in the windows of a pooling layer, along one dimension.

A window is a tuple: its first input, how many there are, and its part of a mean's divisor.
"""

from __future__ import annotations

Window = tuple[int, int, float]


def spans(
    size: int, outputs: int, kernel: int, stride: int, padding: int, dilation: int = 1
) -> list[Window]:
    """Return windows without what is padding in them.

    Args:
        size: Inputs.
        outputs: Windows; the last may reach beyond the padding, as with ``ceil_mode``.
        kernel: Inputs of a window.
        stride: Inputs between windows.
        padding: Inputs before the first and behind the last.
        dilation: Inputs between those of a window.
    """
    windows = []
    for k in range(outputs):
        inside = [
            p
            for p in range(k * stride - padding, k * stride - padding + kernel * dilation, dilation)
            if 0 <= p < size
        ]
        windows.append((inside[0] if inside else 0, len(inside), 1.0))
    return windows


def mean_spans(
    size: int, outputs: int, kernel: int, stride: int, padding: int, count_padding: bool
) -> list[Window]:
    """Return windows with divisors: how many inputs there are, padding with them if `count_padding`."""
    windows = []
    for k, (first, count, _) in enumerate(spans(size, outputs, kernel, stride, padding)):
        begin = k * stride - padding
        padded = min(begin + kernel, size + padding) - begin
        windows.append((first, count, float(padded if count_padding else count)))
    return windows


def adaptive_spans(size: int, outputs: int) -> list[Window]:
    """Return windows that cover all inputs, of nearly one size."""
    windows = []
    for k in range(outputs):
        begin, end = k * size // outputs, -(-(k + 1) * size // outputs)
        windows.append((begin, end - begin, float(end - begin)))
    return windows
