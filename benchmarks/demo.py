"""Train a network dense, and again with one line changed; then compare what is left of it.

Run as ``python -m benchmarks.demo``: a table on the terminal, the same in ``demo.md``, a figure in
``demo.png``, and the sparse network as files in ``exported/``. Fails when a sparse network is below 95 %
zeros, or when the sparse networks' mean test accuracy is more than one point below the dense ones'.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

import inference
from benchmarks.data import Data, load_digits
from benchmarks.demo_export import export, files_section, show_files
from benchmarks.demo_figure import figure
from benchmarks.demo_report import (
    LEVELS,
    THRESHOLDS,
    Network,
    Run,
    Setup,
    Trained,
    markdown,
    shortfalls,
    show,
)
from benchmarks.figures import write_figure
from benchmarks.models import DIGITS_MLP, mlp
from benchmarks.records import write_text
from benchmarks.training import accuracy, compression, train, weights
from dwf_optim import DWFOptimizer, sparsify
from dwf_optim.factors import misalignment

OUT = Path(__file__).parent / "out"


def train_twins(seed: int, data: Data, setup: Setup, progress: tqdm) -> tuple[Run, nn.Sequential]:
    """Train both networks from one start on the same batches; return measures and the sparse one."""
    dense, sparse = mlp(DIGITS_MLP, seed), mlp(DIGITS_MLP, seed)

    # This is the swap. Everything else, before and after, is the same for both.
    sgd = torch.optim.SGD(dense.parameters(), lr=setup.lr, momentum=setup.momentum)
    dwf = DWFOptimizer(sparse.parameters(), lr=setup.lr, momentum=setup.momentum, penalty=setup.penalty)

    trained_dense = fit(dense, sgd, seed, data, setup, progress)
    trained_sparse = fit(sparse, dwf, seed, data, setup, progress)

    report = sparsify(sparse, dwf, sparsity=setup.sparsity)

    dense_ms, sparse_ms = time_batches(dense, sparse, data.test.inputs[: setup.batch_size])
    dense_bytes = file_size(partial(torch.save, dense.state_dict()))
    sparse_bytes = file_size(lambda path: inference.save_state(path, sparse.state_dict()))
    run = Run(
        seed,
        dense=measure(dense, data, trained_dense, dense_bytes, dense_ms),
        sparse=measure(sparse, data, trained_sparse, sparse_bytes, sparse_ms),
        total=report.total,
        threshold=report.threshold,
    )
    return run, sparse


def measure(
    model: nn.Module, data: Data, trained: Trained, file_bytes: int, milliseconds: float
) -> Network:
    """Measure a network as it now stands."""
    return Network(
        trained,
        validation=accuracy(model, data.validation),
        test=accuracy(model, data.test),
        nonzero=int(torch.count_nonzero(weights(model))),
        file_bytes=file_bytes,
        milliseconds=milliseconds,
    )


def fit(
    model: nn.Module, optimizer: Optimizer, seed: int, data: Data, setup: Setup, progress: tqdm
) -> Trained:
    """Train one network and record its trained."""
    trained = Trained()

    def record(epoch: int, loss: float) -> None:
        trained.loss.append(loss)
        trained.accuracy.append(accuracy(model, data.validation))
        for threshold in THRESHOLDS:
            trained.compression.setdefault(threshold, []).append(compression(model, threshold))
        if isinstance(optimizer, DWFOptimizer):
            gaps = (misalignment(optimizer.factors(p)) for p in optimizer.factorized())
            trained.misalignment.append(float(sum(gaps)))
        progress.set_postfix(seed=seed, loss=f"{loss:.3f}")
        progress.update()

    progress.set_description(type(optimizer).__name__.rjust(12))
    finite = train(
        model,
        optimizer,
        data.train,
        batch_size=setup.batch_size,
        epochs=setup.epochs,
        seed=seed,
        schedule=setup.schedule,
        on_epoch=record,
    )
    if not finite:
        sys.exit(f"{type(optimizer).__name__} diverged with seed {seed}: lower the penalty or lr")
    trained.magnitudes = weights(model).abs()
    trained.pruned = prune_by_level(model, data)
    return trained


@torch.no_grad()
def prune_by_level(model: nn.Module, data: Data) -> list[float]:
    """Return the test accuracy of a trained network at every level of magnitude pruning."""
    before = [p.clone() for p in model.parameters()]
    points = []
    for level in LEVELS:
        sparsify(model, sparsity=1 - 1 / level)
        points.append(accuracy(model, data.test))
        for p, saved in zip(model.parameters(), before, strict=True):
            p.copy_(saved)
    return points


def file_size(write: Callable[[Path], object]) -> int:
    """Return how many bytes a function writes to a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        write(path)
        return path.stat().st_size


@torch.inference_mode()
def time_batches(
    dense: nn.Module, sparse: nn.Sequential, batch: Tensor, rounds: int = 300
) -> tuple[float, float]:
    """Return the median milliseconds of one batch, taking turns so that both see the same noise."""
    compiled = inference.compile(sparse, batch, batch_sizes=(len(batch),))
    calls: tuple[Callable[[Tensor], Tensor], ...] = (dense, compiled)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for call, spent in zip(calls, times, strict=True):
            start = time.perf_counter()
            call(batch)
            spent.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times[0]), 1e3 * statistics.median(times[1])


def main() -> None:
    """Run all seeds, then show and write the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT, help="folder of demo.md and demo.png")
    for name, default in (("seeds", 5), ("epochs", Setup.epochs)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default: {default}")
    for name in ("penalty", "sparsity"):
        default = getattr(Setup, name)
        parser.add_argument(f"--{name}", type=float, default=default, help=f"default: {default}")
    options = parser.parse_args()
    setup = Setup(epochs=options.epochs, penalty=options.penalty, sparsity=options.sparsity)
    torch.set_num_threads(1)  # networks this small are slower on more
    data = load_digits(setup.scaling)
    with tqdm(total=2 * options.seeds * setup.epochs, unit="epoch") as progress:
        made = [train_twins(seed, data, setup, progress) for seed in range(options.seeds)]
    runs = [run for run, _ in made]
    folder = options.out / "exported"
    files = export(made[0][1], data.test.inputs[:64], folder)
    write_figure(options.out / "demo.png", figure(runs, setup))
    write_text(options.out / "demo.md", markdown(runs, setup) + "\n" + files_section(files))
    show(runs, setup)
    show_files(files, folder)
    print(f"\nFigure: {options.out / 'demo.png'}   Table: {options.out / 'demo.md'}")
    if missed := shortfalls(runs):
        sys.exit("The demo did not show what it should: " + "; ".join(missed))


if __name__ == "__main__":
    main()
