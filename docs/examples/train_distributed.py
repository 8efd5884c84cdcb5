"""Several processes: a sparse classifier of scikit-learn's digits, under DDP, ZeRO or FSDP2.

Run as ``torchrun --standalone --nproc-per-node 2 train_distributed.py --strategy fsdp``. What differs
from a dense run is marked with "DWF".
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from dwf_optim import DWFOptimizer, sparsify

STRATEGIES = ("ddp", "zero", "fsdp")


def build(strategy: str, model: nn.Module) -> tuple[nn.Module, Optimizer]:
    """Return what is called in training, and its optimizer."""
    options = {"lr": 0.1, "momentum": 0.9, "penalty": 5e-4}
    if strategy == "fsdp":
        for layer in model[::2]:
            fully_shard(layer)
        model = fully_shard(model)
        return model, DWFOptimizer(model.parameters(), **options)  # DWF: after fully_shard, as any other
    wrapped = DistributedDataParallel(model)
    if strategy == "ddp":
        return wrapped, DWFOptimizer(model.parameters(), **options)  # DWF
    return wrapped, ZeroRedundancyOptimizer(model.parameters(), DWFOptimizer, **options)  # DWF


def save(folder: Path, model: nn.Module, optimizer: Optimizer) -> None:
    weights, state = get_state_dict(model, optimizer)
    dcp.save({"model": weights, "optimizer": state}, checkpoint_id=folder)


def resume(folder: Path, model: nn.Module, optimizer: Optimizer) -> None:
    weights, state = get_state_dict(model, optimizer)
    held = {"model": weights, "optimizer": state}
    dcp.load(held, checkpoint_id=folder)
    set_state_dict(model, optimizer, model_state_dict=held["model"], optim_state_dict=held["optimizer"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strategy", choices=STRATEGIES, default="fsdp")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--sparsity", type=float, default=0.95)
    parser.add_argument(
        "--checkpoint", type=Path, help="folder to resume from and to save to (ddp, fsdp)"
    )
    options = parser.parse_args()

    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    pixels, digits = load_digits(return_X_y=True)
    data = train_test_split(pixels / 16, digits, test_size=0.2, random_state=0, stratify=digits)
    train_x, test_x, train_y, test_y = (torch.from_numpy(array) for array in data)

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(64, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)
    )
    parallel, optimizer = build(options.strategy, model)
    if options.checkpoint and options.checkpoint.exists():
        resume(options.checkpoint, model, optimizer)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.epochs)
    generator = torch.Generator().manual_seed(0)  # the same order everywhere; each rank takes its share
    for _ in range(options.epochs):
        for batch in torch.randperm(len(train_x), generator=generator).split(64):
            mine = batch[rank::world]
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(parallel(train_x[mine].float()), train_y[mine])
            loss.backward()
            optimizer.step()
        scheduler.step()
    if options.checkpoint:
        save(options.checkpoint, model, optimizer)

    def accuracy(model: nn.Module) -> float:
        with torch.no_grad():
            predicted: Tensor = model(test_x.float()).argmax(1)
        return float((predicted == test_y).float().mean())

    # DWF: all ranks call it, and all weights become zero where they are small. ZeRO has the factors in
    # parts on all ranks: without the optimizer, which is needed only to train on.
    factors = optimizer if isinstance(optimizer, DWFOptimizer) else None
    report = sparsify(model, factors, sparsity=options.sparsity, evaluate=accuracy)
    if rank == 0:
        print(report)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
