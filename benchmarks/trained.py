"""Networks that DWF has really trained on MNIST, kept so that all benchmarks use the same.

Run as ``python -m benchmarks.trained --data DIR``; what is in ``out/trained`` already is left alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from benchmarks import networks as zoo
from benchmarks.data import Data, add_data_argument, load_mnist
from benchmarks.models import LENET_300_100, lenet5, mlp
from benchmarks.training import accuracy, compression, train
from dwf_optim import DWFOptimizer, sparsify

FOLDER = Path(__file__).parent / "out" / "trained"
NETWORKS: dict[str, Callable[[int], nn.Sequential]] = {
    "lenet_300_100": lambda seed: mlp(LENET_300_100, seed),
    # The images of the data sets are flat.
    "lenet_5": lambda seed: nn.Sequential(nn.Unflatten(1, (1, 28, 28)), *lenet5(seed)),
}
FEATURES = 784
# What tables have for the share of zeros.
AS_TRAINED = "as trained"
# As in results/storage.md: sparser than 90 with LeNet-300-100.
LR, MOMENTUM, DEPTH, PENALTY = 0.1, 0.9, 3, 2e-4
EPOCHS, BATCH_SIZE, TOLERANCE = 20, 128, 0.002


def trained(name: str, data: Path, folder: Path = FOLDER) -> nn.Sequential:
    """Return a trained network with exact zeros, training it if it is not there yet.

    Args:
        name: In `NETWORKS`.
        data: Folder of MNIST, for networks that are not trained yet.
        folder: Where weights are kept.

    Returns:
        The network in eval mode, for float32 ``[batch, 784]``.
    """
    model = NETWORKS[name](0)
    path = folder / f"{name}.safetensors"
    if path.exists():
        model.load_state_dict(load_file(path))
        return model.eval()
    split = load_mnist(data, "standard")
    _fit(model, split)
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    save_file(model.state_dict(), part)
    part.replace(path)
    print(
        f"{name}: test accuracy {accuracy(model, split.test):.4f}, compression {compression(model):.1f}"
    )
    return model.eval()


def network(name: str, zeros: float | str, data: Path) -> tuple[nn.Module, tuple[int, ...]]:
    """Return a network as DWF trained it, or one of the zoo with random weights.

    Args:
        name: In `NETWORKS`, or in that of `benchmarks.networks`.
        zeros: `AS_TRAINED`, or the share of weights that are made zero.
        data: Folder of MNIST.

    Returns:
        The network in eval mode, and the shape of one example.
    """
    if zeros == AS_TRAINED:
        return trained(name, data), (FEATURES,)
    build, shape = zoo.NETWORKS[name]
    return zoo.prune_(build(0), float(zeros)), shape


def _fit(model: nn.Sequential, data: Data) -> None:
    optimizer = DWFOptimizer(
        model.parameters(), LR, momentum=MOMENTUM, depth=DEPTH, penalty=PENALTY, seed=0
    )
    finite = train(
        model, optimizer, data.train, batch_size=BATCH_SIZE, epochs=EPOCHS, seed=0, schedule="cosine"
    )
    if not finite:
        raise ArithmeticError(f"training diverged at lr {LR}, depth {DEPTH}, penalty {PENALTY}")
    sparsify(
        model,
        optimizer,
        tolerance=TOLERANCE,
        evaluate=lambda candidate: accuracy(candidate, data.validation),
        progress=False,
    )


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_argument(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in NETWORKS:
        trained(name, options.data)


if __name__ == "__main__":
    main()
