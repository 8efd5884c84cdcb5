"""Does `recommend` find a run that works? Ask it, train by its advice, and compare with dense training.

Run as ``python -m benchmarks.recommend --data DIR``; what is in ``results/recommend.jsonl`` is skipped.
Nothing of a sparse run is chosen by hand or by its results: the advice is taken as it comes. The
dense runs have as many steps and the same schedule, and the best of several rates by validation.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

from benchmarks.data import Data, Split, add_data_argument, load_cifar10, load_digits, load_mnist
from benchmarks.figures import write_figure
from benchmarks.models import DIGITS_MLP, lenet5, mlp, small_vgg
from benchmarks.recommend_report import NAME, report
from benchmarks.records import CONFIG, RESULT, RESULTS, Records, write_text
from benchmarks.training import accuracy, weights
from dwf_optim import DWFOptimizer, Recommendation, recommend
from dwf_optim.recommend import rate_factor

# The grid of dense rates, and the two that are tried first; then the neighbours of the best, until it
# has both.
DENSE_RATES, FIRST = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0), (2, 3)
MOMENTUM = 0.9
# The task and seed whose trials are drawn.
DRAWN = ("digits", 0)

# Loads data, once; a task whose runs are all there needs none.
Load = Callable[[], Data]


@dataclass(frozen=True)
class Task:
    """A network with its data, and what is asked for.

    Attributes:
        make: Builds the network, from a seed.
        load: Loads the data, from the folder of the files.
        batch_size: Samples a step.
        target: Fraction of zeros.
        steps: Of the runs, where they are given; None for the advice's.
        seeds: Of the runs: initial weights, order of the data, factors.
    """

    make: Callable[[int], nn.Module]
    load: Callable[[Path], Data]
    batch_size: int
    target: float
    steps: int | None
    seeds: tuple[int, ...]


def _images(folder: Path) -> Data:
    data = load_mnist(folder, "standard")
    parts = (data.train, data.validation, data.test)
    return Data(*(Split(part.inputs.view(-1, 1, 28, 28), part.targets) for part in parts))


def _cifar10(folder: Path) -> Data:
    return load_cifar10(folder, train=20000, validation=2500, test=10000)


def _vgg(seed: int, width: int = 1) -> nn.Module:
    model = small_vgg(seed, [width * filters for filters in (16, 32, 64)])
    # Channels last: the same network, in 0.6 of the time on the CPU.
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


_wide_vgg = partial(_vgg, width=4)


TASKS = {
    "digits": Task(
        make=lambda seed: mlp(DIGITS_MLP, seed),
        load=lambda folder: load_digits("standard"),
        batch_size=64,
        target=0.95,
        steps=None,
        seeds=(0, 1, 2),
    ),
    "lenet5": Task(make=lenet5, load=_images, batch_size=64, target=0.95, steps=None, seeds=(0,)),
    "lenet5_short": Task(make=lenet5, load=_images, batch_size=64, target=0.95, steps=1500, seeds=(0,)),
    "vgg": Task(make=_vgg, load=_cifar10, batch_size=64, target=0.9, steps=None, seeds=(0,)),
    "vgg_long": Task(make=_vgg, load=_cifar10, batch_size=64, target=0.9, steps=3000, seeds=(0,)),
    "vgg_wide": Task(make=_wide_vgg, load=_cifar10, batch_size=64, target=0.9, steps=None, seeds=(0,)),
}


def ask(task: Task, data: Data, seed: int) -> Recommendation:
    """Ask for advice, as a user would."""
    torch.manual_seed(seed)
    samples = TensorDataset(data.train.inputs, data.train.targets)
    loader = DataLoader(samples, task.batch_size, shuffle=True)
    return recommend(
        task.make(seed), loader, F.cross_entropy, target=task.target, steps=task.steps, seed=seed
    )


def batches(split: Split, size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Go through the data again and again, in an order that the seed says."""
    generator = torch.Generator().manual_seed(seed)
    for _ in itertools.count():
        for rows in torch.randperm(len(split), generator=generator).split(size):
            yield split.inputs[rows], split.targets[rows]


def fit(
    model: nn.Module, optimizer: Optimizer, scheduler: Any, task: Task, data: Data, steps: int, seed: int
) -> dict[str, Any]:
    """Train, and measure what comes out."""
    start = time.perf_counter()
    model.train()
    stream = batches(data.train, task.batch_size, seed)
    for inputs, targets in itertools.islice(stream, steps):
        loss = F.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if not math.isfinite(loss.item()):
            break
    model.eval()
    flat = weights(model)
    return {
        "diverged": not math.isfinite(loss.item()),
        "validation": accuracy(model, data.validation),
        "test": accuracy(model, data.test),
        "zeros": 1 - int(torch.count_nonzero(flat)) / flat.numel(),
        "weights": flat.numel(),
        "seconds": round(time.perf_counter() - start, 1),
    }


def advise(task: Task, load: Load, seed: int, figure: Path | None) -> dict[str, Any]:
    """Ask for advice and keep what the other runs need of it; draw it, if a file is named."""
    start = time.perf_counter()
    advice = ask(task, load(), seed)
    seconds = round(time.perf_counter() - start, 1)
    if figure is not None:
        write_figure(figure, advice.plot())
    return {
        "lr": advice.lr,
        "penalty": advice.penalty,
        "steps": advice.steps,
        "trial_steps": sum(len(t.losses) for ts in advice.curves.values() for t in ts),
        "report": advice.report(),
        "seconds": seconds,
    }


def sparse(task: Task, load: Load, seed: int, advice: dict[str, Any]) -> dict[str, Any]:
    """Train by the advice."""
    taken = Recommendation(
        **{key: advice[key] for key in ("lr", "penalty", "steps")},
        target=task.target,
        reasons={},
        curves={},
        options={key: advice[key] for key in ("lr", "penalty")} | {"momentum": MOMENTUM, "seed": seed},
    )
    model = task.make(seed)
    optimizer = DWFOptimizer(model.parameters(), **taken.options)
    return fit(model, optimizer, taken.scheduler(optimizer), task, load(), taken.steps, seed)


def dense(task: Task, load: Load, seed: int, lr: float, steps: int) -> dict[str, Any]:
    """Train without factors, by the same schedule."""
    model = task.make(seed)
    optimizer = SGD(model.parameters(), lr=lr, momentum=MOMENTUM)
    scheduler = LambdaLR(optimizer, lambda step: rate_factor(step / steps))
    return fit(model, optimizer, scheduler, task, load(), steps, seed)


def run_case(
    task: Task,
    load: Load,
    seed: int,
    figure: Path | None,
    once: Callable[[dict[str, Any], Callable[[], dict[str, Any]]], dict[str, Any]],
) -> None:
    """Make what is missing of a task with one seed.

    Args:
        task: The network and what is asked for.
        load: Its data.
        seed: Of all runs.
        figure: File for the picture of the trials.
        once: Returns what a run of this configuration gave, or makes it.
    """
    config = {"seed": seed, "target": task.target, "steps": task.steps}
    advice = once({**config, "run": "advice"}, partial(advise, task, load, seed, figure))
    once({**config, "run": "sparse"}, partial(sparse, task, load, seed, advice))

    def score(index: int) -> float:
        lr = DENSE_RATES[index]
        make = partial(dense, task, load, seed, lr, advice["steps"])
        result = once({**config, "run": "dense", "lr": lr}, make)
        return -1.0 if result["diverged"] else result["validation"]

    scores = {index: score(index) for index in FIRST}
    best = max(scores, key=scores.__getitem__)
    while 0 < best < len(DENSE_RATES) - 1 and not {best - 1, best + 1} <= scores.keys():
        scores.update({i: score(i) for i in (best - 1, best + 1) if i not in scores})
        best = max(scores, key=scores.__getitem__)


def main() -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_argument(parser)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of results")
    parser.add_argument("--tasks", nargs="*", choices=TASKS, default=list(TASKS), help="which to run")
    options = parser.parse_args()
    torch.set_num_threads(1)
    records = Records(options.out / f"{NAME}.jsonl")
    with tqdm(unit="run") as progress:

        def once(
            name: str, config: dict[str, Any], make: Callable[[], dict[str, Any]]
        ) -> dict[str, Any]:
            config = {"task": name, **config}
            progress.set_description(" ".join(map(str, config.values())))
            if not records.has(config):
                records.add(config, make())
            progress.update()
            return next(row[RESULT] for row in records.rows if row[CONFIG] == config)

        for name in options.tasks:
            task = TASKS[name]
            load = cache(partial(task.load, options.data))
            for seed in task.seeds:
                figure = options.out / f"{NAME}.png" if (name, seed) == DRAWN else None
                run_case(task, load, seed, figure, partial(once, name))
    write_text(options.out / f"{NAME}.md", report(records))
    print(f"wrote {options.out / NAME}.md")


if __name__ == "__main__":
    main()
