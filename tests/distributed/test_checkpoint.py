"""Distributed checkpoints: written by two ranks, read by one, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    get_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
    set_state_dict,
)

from dwf_optim import DWFOptimizer
from tests.distributed import common
from tests.distributed.test_sharded import sharded

BEFORE, AFTER = 4, 3
LAYOUTS = {"nested": False, "flattened": True}
RUNS = [
    (layout, kind, init) for layout in LAYOUTS for kind, init in (("sgd", "preserve"), ("adamw", "dwf"))
]


def options(layout: str) -> StateDictOptions:
    return StateDictOptions(flatten_optimizer_state_dict=LAYOUTS[layout])


def save_distributed(model: nn.Module, optimizer: DWFOptimizer, where: Path, layout: str) -> None:
    weights, state = get_state_dict(model, optimizer, options=options(layout))
    dcp.save({"model": weights, "optimizer": state}, checkpoint_id=where)


def load_distributed(model: nn.Module, optimizer: DWFOptimizer, where: Path, layout: str) -> None:
    weights, state = get_state_dict(model, optimizer, options=options(layout))
    held = {"model": weights, "optimizer": state}
    dcp.load(held, checkpoint_id=where)
    set_state_dict(
        model,
        optimizer,
        model_state_dict=held["model"],
        optim_state_dict=held["optimizer"],
        options=options(layout),
    )


def everything(model: nn.Module, optimizer: DWFOptimizer) -> dict[str, Any]:
    """Return weights and optimizer state from all ranks, and what the groups have summed up."""
    found: dict[str, Any] = dict(common.gathered(model))
    for name, p in model.named_parameters():
        for key, value in optimizer.state[p].items():
            found[f"{name} {key}"] = common.full(value)
    keys = ("lr", "depth", "penalty", "init", "steps", "lr_sum", "penalty_sum", "resolved_lr_scale")
    for index, group in enumerate(optimizer.param_groups):
        found |= {f"group {index} {key}": group[key] for key in keys}
    return found


def start(kind: str, init: str) -> tuple[nn.Module, DWFOptimizer]:
    """Return what one rank, or the only process, begins with."""
    model = sharded() if torch.distributed.get_world_size() > 1 else common.network()
    return model, common.build(model.parameters(), kind, init=init)


def two_ranks_write(rank: int, folder: Path) -> None:
    for layout, kind, init in RUNS:
        run = f"{layout}-{kind}"
        model, optimizer = start(kind, init)
        common.train(model, optimizer, BEFORE)
        save_distributed(model, optimizer, folder / f"{run}-by-two", layout)
        common.save(everything(model, optimizer), folder, f"{run}-written-{rank}")
        common.train(model, optimizer, AFTER)
        common.save(everything(model, optimizer), folder, f"{run}-straight-{rank}")


def one_reads_and_writes(rank: int, folder: Path) -> None:
    for layout, kind, init in RUNS:
        run = f"{layout}-{kind}"
        model, optimizer = start(kind, init)
        load_distributed(model, optimizer, folder / f"{run}-by-two", layout)
        common.save(everything(model, optimizer), folder, f"{run}-read-by-one")
        save_distributed(model, optimizer, folder / f"{run}-by-one", layout)


def two_ranks_read(rank: int, folder: Path) -> None:
    for layout, kind, init in RUNS:
        run = f"{layout}-{kind}"
        model, optimizer = start(kind, init)
        load_distributed(model, optimizer, folder / f"{run}-by-one", layout)
        common.save(everything(model, optimizer), folder, f"{run}-read-{rank}")
        common.train(model, optimizer, AFTER)
        common.save(everything(model, optimizer), folder, f"{run}-resumed-{rank}")
    whole_state(rank, folder)


def whole_state(rank: int, folder: Path) -> None:
    """A whole state dict on rank 0, sent to all ranks; and one that every rank has, loaded directly."""
    whole = StateDictOptions(full_state_dict=True, cpu_offload=True)
    model, optimizer = start("sgd", "preserve")
    common.train(model, optimizer, BEFORE)
    weights = get_model_state_dict(model, options=whole)
    state = get_optimizer_state_dict(model, optimizer, options=whole)
    expected = everything(model, optimizer)
    if rank == 0:
        common.save([weights, state], folder, "whole")
    torch.distributed.barrier()
    send = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    model, optimizer = start("sgd", "preserve")
    set_model_state_dict(model, weights if rank == 0 else {}, options=send)
    set_optimizer_state_dict(model, optimizer, state if rank == 0 else {}, options=send)
    assert_same(everything(model, optimizer), expected)

    alone = common.network()
    single = common.build(alone.parameters(), "sgd")
    inputs, targets = common.data()
    nn.functional.mse_loss(alone(inputs), targets).backward()
    single.step()
    model, optimizer = start("sgd", "preserve")
    optimizer.load_state_dict(single.state_dict())
    found = everything(model, optimizer)
    for name, p in alone.named_parameters():
        for key, value in single.state[p].items():
            assert torch.equal(found[f"{name} {key}"], value), (name, key)


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if isinstance(value, Tensor):
            assert torch.equal(found[key], value), key
        else:
            assert found[key] == value, key


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    common.spawn(two_ranks_write, folder)
    common.spawn(one_reads_and_writes, folder, world=1)
    common.spawn(two_ranks_read, folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "kind"), [(layout, kind) for layout, kind, _ in RUNS])
def test_two_to_one_to_two_ranks_changes_no_bit(results: Path, layout: str, kind: str) -> None:
    run = f"{layout}-{kind}"
    written = [common.load(results, f"{run}-written-{rank}") for rank in range(2)]
    assert_same(written[0], written[1])
    assert_same(common.load(results, f"{run}-read-by-one"), written[0])
    for rank in range(2):
        assert_same(common.load(results, f"{run}-read-{rank}"), written[0])
        straight = common.load(results, f"{run}-straight-{rank}")
        assert_same(common.load(results, f"{run}-resumed-{rank}"), straight)


@pytest.mark.slow
def test_one_process_loads_a_whole_state(results: Path) -> None:
    weights, state = common.load(results, "whole")
    model = common.network()
    optimizer = common.build(model.parameters(), "sgd")
    set_model_state_dict(model, weights)
    set_optimizer_state_dict(model, optimizer, state)
    for name, p in model.named_parameters():
        assert torch.equal(p, weights[name])
        for key, value in optimizer.state[p].items():
            assert torch.equal(value, state["state"][name][key])
