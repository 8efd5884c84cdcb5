"""10,000 damaged and hostile files: each is refused by name, or loads and can be called."""

from __future__ import annotations

import random
import resource
from collections import Counter

import pytest
import torch

import inference
from tests.inference.artifact.native.files import contents, mutate

FILES = 10_000
# The models take some 10 KB.
MAX_BYTES = 2**24
# Peak memory in bytes for each that is allowed: copies in float64 for compaction, masks, and packed
# weights; and what the memory allocator of a sanitized build keeps back (256 MiB).
COPIES = 32


def peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def call(model: inference.SparseModel, batch: int) -> None:
    """Call a model, whose outputs must have the shapes that its graph declares."""
    specs = model.source.inputs
    inputs = [
        torch.rand(batch, *spec.shape)
        if spec.dtype.is_floating_point
        else torch.zeros(batch, *spec.shape, dtype=spec.dtype)
        for spec in specs
    ]
    outputs = model(*inputs)
    for name, output in zip(
        model.graph.outputs, outputs if isinstance(outputs, tuple) else [outputs], strict=True
    ):
        shape = model.graph.shapes[name]
        assert shape is None or tuple(output.shape) == (batch, *shape)


@pytest.mark.slow
def test_mutated_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    files = contents(folder)
    for name in files:
        call(inference.load(folder / f"{name}.dwf", max_bytes=MAX_BYTES), 2)
    path = folder / "mutant.dwf"
    draw = random.Random(0)
    seen: Counter[tuple[str, str]] = Counter()
    reasons = set()
    before = peak_memory()
    for number in range(FILES):
        name = draw.choice(sorted(files))
        kind, content = mutate(draw, files[name])
        path.write_bytes(content)
        try:
            model = inference.load(path, max_bytes=MAX_BYTES)
        except ValueError as error:
            text = str(error)
            if not text.startswith(f"{path} cannot be loaded: "):
                raise AssertionError(f"mutant {number} is not named") from error
            reasons.add(text.removeprefix(str(path))[:40])
            seen[kind, "refused"] += 1
        else:
            for batch in (1, 3):
                call(model, batch)
            seen[kind, "loaded"] += 1
    assert peak_memory() - before <= COPIES * MAX_BYTES
    # What checksums protect is never taken for whole; behind them, some changes are harmless.
    assert not seen["cut", "loaded"]
    for kind in ("flipped", "cut", "outer", "inner", "data"):
        assert seen[kind, "refused"] > 100, seen
    assert seen["inner", "loaded"] > 100, seen
    assert seen["data", "loaded"] > 100, seen
    assert len(reasons) > 100
