"""Accelerate: a sparse convolution network for scikit-learn's digits, with gradient accumulation.

Run as ``python train_with_accelerate.py``. What differs from a dense run is marked with "DWF".
"""

from __future__ import annotations

import argparse
import math

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from dwf_optim import DWFOptimizer, param_groups, sparsify


def network() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 10),
    )


@torch.no_grad()
def accuracy(model: nn.Module, pixels: Tensor, digits: Tensor) -> float:
    model.eval()
    return float((model(pixels).argmax(1) == digits).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--penalty", type=float, default=2e-3)
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--mixed-precision", choices=["no", "bf16"], default="no")
    options = parser.parse_args()

    set_seed(0)
    accelerator = Accelerator(
        cpu=True, gradient_accumulation_steps=2, mixed_precision=options.mixed_precision
    )
    pixels, digits = load_digits(return_X_y=True)
    tensors = torch.tensor((pixels - 5) / 6, dtype=torch.float32), torch.tensor(digits)
    train, test = train_test_split(TensorDataset(*tensors), test_size=360, random_state=0)
    loader = DataLoader(train, batch_size=32, shuffle=True)

    model = network()
    # DWF: was torch.optim.SGD(model.parameters(), lr=options.lr, momentum=0.9)
    optimizer = DWFOptimizer(param_groups(model, penalty=options.penalty), lr=options.lr, momentum=0.9)
    # Accelerate steps it with the optimizer: here once every two batches.
    steps = options.epochs * math.ceil(len(loader) / 2)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    model, optimizer, loader, scheduler = accelerator.prepare(model, optimizer, loader, scheduler)

    for _ in range(options.epochs):
        model.train()
        for pixels, digits in loader:
            with accelerator.accumulate(model):
                accelerator.backward(F.cross_entropy(model(pixels), digits))
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 5.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()

    # DWF: nearly zero -> exactly zero
    pixels, digits = map(torch.stack, zip(*test, strict=True))
    model = accelerator.unwrap_model(model)
    report = sparsify(
        model,
        optimizer,
        sparsity=options.sparsity,
        evaluate=lambda model: accuracy(model, pixels, digits),
    )
    print(report)
    print(f"test accuracy {report.metric_after:.4f} with {report.sparsity:.2%} zeros")


if __name__ == "__main__":
    main()
