"""How exact are small weights in float32, where all factors are kept and where one root stands for them?

Run as ``python -m benchmarks.near_zero``: weights of all sizes walk on random gradients, the same in
float32 and in float64, and errors are sorted by the size of the weight at the end. Under a minute.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from tqdm import tqdm

from benchmarks.records import RESULTS, describe, environment, table, write_text
from dwf_optim import DWFOptimizer
from dwf_optim.storage import STORAGES

BASES: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "SGD": (torch.optim.SGD, {"lr": 0.05}),
    "SGD, momentum": (torch.optim.SGD, {"lr": 0.005, "momentum": 0.9}),
    "Adam": (torch.optim.Adam, {"lr": 1e-3}),
}
DEPTHS = (3, 4)
STEPS = 500
# Gradients are normal with this standard deviation.
SIZE = 0.3
PENALTY = 1e-3
WEIGHTS = 2**16
# Weights start with |w| from 10^LEAST to 1, log-uniform.
LEAST = -8
DECADES = ((0, -1), (-1, -2), (-2, -4), (-4, -6), (-6, -8))
QUANTILES = (0.5, 0.99)


def walk(storage: str, base: str, depth: int, dtype: torch.dtype) -> Tensor:
    """Return the weights after all steps, in float64."""
    generator = torch.Generator().manual_seed(0)
    sizes = 10 ** (LEAST * torch.rand(1, WEIGHTS, generator=generator, dtype=torch.float64))
    signs = torch.randint(0, 2, sizes.shape, generator=generator) * 2 - 1
    weight = Parameter((sizes * signs).float().to(dtype))
    make, options = BASES[base]
    optimizer = DWFOptimizer(
        [weight],
        base=make,
        penalty=PENALTY,
        depth=depth,
        storage=storage,
        init="balanced",
        lr_scale=1.0,
        **options,
    )
    for _ in range(STEPS):
        weight.grad = (SIZE * torch.randn(weight.shape, generator=generator)).to(dtype)
        optimizer.step()
    return weight.detach().double()


def errors(found: Tensor, exact: Tensor) -> list[str]:
    """Return the quantiles of the relative error, by decades of the exact weight."""
    relative = ((found - exact) / exact).abs()
    cells = []
    for high, low in DECADES:
        some = relative[(exact.abs() < 10.0**high) & (exact.abs() >= 10.0**low)]
        quantiles = [torch.quantile(some, q).item() for q in QUANTILES] if some.numel() > 100 else []
        cells.append(" / ".join(f"{q:.0e}" for q in quantiles) or "-")
    return cells


def report() -> str:
    """Walk all ways and write the table."""
    rows = []
    for depth in DEPTHS:
        for base in tqdm(BASES, desc=f"depth {depth}", leave=False):
            exact = walk("tied", base, depth, torch.float64)
            for storage in STORAGES:
                found = walk(storage, base, depth, torch.float32)
                rows.append([str(depth), base, storage, *errors(found, exact)])
    header = ["depth", "base", "storage", *(f"1e{low} to 1e{high}" for high, low in DECADES)]
    return "\n".join(
        [
            "# Float32 near zero, by how factors are kept",
            "",
            f"Made by `python -m benchmarks.near_zero`. {WEIGHTS} weights, {STEPS} steps on random "
            f"gradients of size {SIZE:g}, penalty {PENALTY:g}, all of balanced start. Relative error "
            "against the same in float64, by the size of the weight at the end: median / 99 % quantile.",
            "",
            table(header, rows),
            f"Made on {describe(environment())}; {environment()['date']}.",
            "",
        ]
    )


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="init='balanced' with even depth")
    write_text(options.out / "near_zero.md", report())
    print(f"wrote {options.out / 'near_zero.md'}")


if __name__ == "__main__":
    main()
