"""By which rule does one learning rate mean the same for every depth and for dense training?

Run as ``python -m benchmarks.lr_study --data DIR``. Runs that are in ``results/lr_study.jsonl`` are
skipped, and those to come are chosen by what is there: dense curves first; then every rule (one seed)
from the dense best rate outwards, until its peak is seen; then the other seeds around the peaks of
dense, of the default rule and of each base's two best.
`benchmarks.lr_window` asks something else: where the default fails, so that the optimizer can warn.
"""

from __future__ import annotations

import argparse
import itertools
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from tqdm import tqdm

from benchmarks.data import Data, Split, add_data_argument, load_cifar10, load_mnist
from benchmarks.figures import write_figure
from benchmarks.lr_curves import DENSE, REACH, around, curve, match, missing_rates, worst_first
from benchmarks.lr_rules import RULES
from benchmarks.lr_study_figure import plot
from benchmarks.lr_study_report import report
from benchmarks.models import LENET_300_100, lenet5, mlp, small_vgg
from benchmarks.records import RESULTS, Records, write_text
from benchmarks.training import accuracy, compression, train
from dwf_optim import DWFOptimizer
from dwf_optim.learning_rate import BaseKind

DEPTHS = (2, 3, 4)
# At this penalty and 20 epochs, every depth is sparser than 48 at 97.4 % or more in results/mnist.md.
PENALTY = 2e-4
SCHEDULE = "cosine"
SEEDS = (0, 1, 2)
FINALISTS = 2
# It is what users get, so it has three seeds whatever its first one says.
DEFAULT = "auto"


@dataclass(frozen=True)
class Base:
    """A base optimizer: its class, its options, the half-decade grid of its rates, the rules tried."""

    cls: type[Optimizer]
    kind: BaseKind
    options: dict[str, Any]
    rates: tuple[float, ...]
    rules: tuple[str, ...]


SGD_RATES = (1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
ADAM_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1)
BASES = {
    "SGD": Base(torch.optim.SGD, "sgd", {"momentum": 0.9}, SGD_RATES, tuple(RULES)),
    # Adam's step does not depend on the gradient's size: a cap on gradients would cap nothing.
    "Adam": Base(torch.optim.Adam, "adam", {}, ADAM_RATES, ("auto", "rms", "raw")),
}


@dataclass(frozen=True)
class Net:
    """A network, its data, and how long it is trained."""

    build: Callable[[int], nn.Module]
    load: Callable[[Path], Data]
    images: int
    epochs: int
    batch_size: int


def _mnist(train: int, held: int, *shape: int) -> Callable[[Path], Data]:
    def first(split: Split, count: int) -> Split:
        return Split(split.inputs[:count].reshape(-1, *shape), split.targets[:count])

    def load(directory: Path) -> Data:
        data = load_mnist(directory, "standard")
        return Data(first(data.train, train), first(data.validation, held), first(data.test, 0))

    return load


def _cifar10(train: int, held: int) -> Callable[[Path], Data]:
    def fast(split: Split) -> Split:
        return Split(split.inputs.contiguous(memory_format=torch.channels_last), split.targets)

    def load(directory: Path) -> Data:
        data = load_cifar10(directory, train=train, validation=held, test=0)
        return Data(fast(data.train), fast(data.validation), fast(data.test))

    return load


def _small_vgg(seed: int) -> nn.Module:
    return small_vgg(seed).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


NETS = {
    "LeNet-300-100": Net(lambda s: mlp(LENET_300_100, s), _mnist(20_000, 5000, 784), 20_000, 1, 64),
    "LeNet-5": Net(lenet5, _mnist(2400, 2000, 1, 28, 28), 2400, 1, 16),
    "small VGG": Net(_small_vgg, _cifar10(2400, 2000), 2400, 1, 16),
}


def configuration(net: str, base: str, rule: str, depth: int, lr: float, seed: int) -> dict[str, Any]:
    """Name a run by all that it depends on."""
    return {
        **{"net": net, "base": base, "rule": rule, "depth": depth, "lr": lr, "seed": seed},
        "penalty": 0.0 if rule == DENSE else PENALTY,
        "images": NETS[net].images,
        "epochs": NETS[net].epochs,
        "batch_size": NETS[net].batch_size,
    }


# Each stage asks for runs by what the stages before it have found.


def dense_runs(records: Records) -> Iterator[dict[str, Any]]:
    """Ask for the dense curves: the whole grid."""
    for base, net in itertools.product(BASES, NETS):
        for lr in BASES[base].rates:
            yield configuration(net, base, DENSE, 1, lr, 0)


def screening_runs(records: Records) -> Iterator[dict[str, Any]]:
    """Ask for what every curve lacks to show its peak, rule by rule, so that what is there compares."""
    for rule, base, net, depth in itertools.product(RULES, BASES, NETS, DEPTHS):
        dense = curve(records, net=net, base=base, rule=DENSE, seed=0)
        if dense is not None and rule in BASES[base].rules:
            found = curve(records, net=net, base=base, rule=rule, depth=depth, seed=0)
            for lr in missing_rates(BASES[base].rates, dense.best, found):
                yield configuration(net, base, rule, depth, lr, 0)


def finalists(records: Records, base: str) -> list[str]:
    """Return the base's best rules by their first seed, the best first: see `worst_first`."""
    scores = {}
    for rule in RULES:
        matches = []
        for net, depth in itertools.product(NETS, DEPTHS):
            dense = curve(records, net=net, base=base, rule=DENSE, seed=0)
            other = curve(records, net=net, base=base, rule=rule, depth=depth, seed=0)
            if dense and other and dense.best in other.means:
                matches.append(match(BASES[base].rates, dense, other))
        if len(matches) == len(NETS) * len(DEPTHS):
            scores[rule] = worst_first(matches)
    return sorted(scores, key=scores.__getitem__)[:FINALISTS]


def final_runs(records: Records) -> Iterator[dict[str, Any]]:
    """Ask for the other seeds around the best rates of dense, of the default and of the finalists."""
    for seed, base, net in itertools.product(SEEDS[1:], BASES, NETS):
        rates = BASES[base].rates
        dense = curve(records, net=net, base=base, rule=DENSE, seed=0)
        rules = dict.fromkeys([DEFAULT, *finalists(records, base)])
        for rule, depth in [(DENSE, 1), *itertools.product(rules, DEPTHS)]:
            screened = curve(records, net=net, base=base, rule=rule, depth=depth, seed=0)
            if dense and screened:
                for lr in sorted({dense.best, *around(rates, screened.best, REACH)}):
                    yield configuration(net, base, rule, depth, lr, seed)


STAGES = {"dense": dense_runs, "screening": screening_runs, "finals": final_runs}


def run(config: dict[str, Any], data: Data) -> dict[str, Any]:
    """Train once; accuracy is that on held-out images."""
    net, base = NETS[config["net"]], BASES[config["base"]]
    model = net.build(config["seed"])
    optimizer: Optimizer
    if config["rule"] == DENSE:
        optimizer = base.cls(model.parameters(), lr=config["lr"], **base.options)  # type: ignore[call-arg]
    else:
        optimizer = DWFOptimizer(
            model.parameters(),
            config["lr"],
            base=base.cls,
            depth=config["depth"],
            penalty=config["penalty"],
            seed=config["seed"],
            **base.options,
        )
        first = Split(data.train.inputs[:1000], data.train.targets[:1000])
        RULES[config["rule"]](optimizer, model, first, base.kind)
    start = time.process_time()
    finite = train(
        model,
        optimizer,
        data.train,
        batch_size=config["batch_size"],
        epochs=config["epochs"],
        seed=config["seed"],
        schedule=SCHEDULE,
    )
    [group] = optimizer.param_groups
    scale = group.get("lr_scale", 1.0)
    return {
        "accuracy": accuracy(model, data.validation),
        "finite": finite,
        "compression_1e-3": compression(model, 1e-3),
        "lr_scale": group["resolved_lr_scale"] if scale == "auto" else scale,
        "cpu_seconds": round(time.process_time() - start, 2),
    }


def main() -> None:
    """Run what is missing, then write page and figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_argument(parser)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of results")
    for name, choices in (
        ("--base", BASES),
        ("--net", NETS),
        ("--rule", (DENSE, *RULES)),
        ("--stage", STAGES),
    ):
        parser.add_argument(name, choices=choices, nargs="*", default=list(choices), help="only these")
    options = parser.parse_args()
    torch.set_num_threads(1)
    # Rates outside the window are what this script is for.
    warnings.filterwarnings("ignore", message="lr outside the usable window")
    path = options.out / "lr_study.jsonl"
    data: dict[str, Data] = {}
    for stage in options.stage:
        records = Records(path)  # another process may have added to it
        while missing := [
            config
            for config in STAGES[stage](records)
            if all(config[key] in getattr(options, key) for key in ("base", "net", "rule"))
            and not records.has(config)
        ]:
            for config in tqdm(missing, unit="run", desc=stage):
                net = config["net"]
                data[net] = data.get(net) or NETS[net].load(options.data)
                records.add(config, run(config, data[net]))
    records = Records(path)
    write_text(options.out / "lr_study.md", report(records))
    for base in BASES:
        write_figure(options.out / f"lr_study_{base.lower()}.png", plot(records, base))
    print(f"wrote {options.out / 'lr_study.md'} and its figures")


if __name__ == "__main__":
    main()
