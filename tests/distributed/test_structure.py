"""Weights that share gates under FSDP2: gates are cut like their weight, or refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from dwf_optim import DWFOptimizer, sparsify
from tests.distributed import common

FULL = StateDictOptions(full_state_dict=True)
KINDS = ("sgd", "adamw")


def sharded() -> nn.Module:
    model = common.network()
    mesh = init_device_mesh("cpu", (2,))
    for layer in model[::2]:
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def build(model: nn.Module, kind: str) -> DWFOptimizer:
    return common.build(model.parameters(), kind, structure="neuron", weigh_by_size=True)


def work(rank: int, folder: Path) -> None:
    for kind in KINDS:
        model = sharded()
        optimizer = build(model, kind)
        common.train(model, optimizer)
        common.save(common.gathered(model), folder, f"{kind}-{rank}")
    for p in optimizer.factorized():
        for key, value in optimizer.state[p].items():
            if value.ndim > 0:
                assert isinstance(value, DTensor)
                assert value.placements == p.placements
                assert value.shape == (p.shape if "omega" in key else (p.shape[0], 1))
    common.save(sparsified(sharded()), folder, f"sparsified-{rank}")
    resumed(folder, rank)
    with pytest.raises(
        ValueError, match=r"structure='input' .*sharded along dimension \[0\]: its groups"
    ):
        common.build(sharded().parameters(), "sgd", structure="input")


def sparsified(model: nn.Module) -> dict[str, Tensor]:
    optimizer = build(model, "sgd")
    common.train(model, optimizer, 3)
    sparsify(model, optimizer, sparsity=0.5)
    common.train(model, optimizer, 3)
    return common.gathered(model)


def resumed(folder: Path, rank: int) -> None:
    """Whole checkpoints go from shards to shards; the run ends where an unbroken one does."""
    model = sharded()
    optimizer = build(model, "sgd")
    common.train(model, optimizer, 4)
    checkpoint = get_optimizer_state_dict(model, optimizer, options=FULL)
    weights = common.gathered(model)
    model = sharded()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(distribute_tensor(weights[name], p.device_mesh, p.placements))
    again = build(model, "sgd")
    full = checkpoint if rank == 0 else {}
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    set_optimizer_state_dict(model, again, full, options=options)
    common.train(model, again, common.STEPS - 4)
    common.save(common.gathered(model), folder, f"resumed-{rank}")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("structure")
    common.spawn(work, folder)
    return folder


def check(results: Path, name: str, expected: dict[str, Tensor]) -> None:
    for rank in range(2):
        common.assert_equal_but_for_rounding(common.load(results, f"{name}-{rank}"), expected)


def alone(kind: str) -> dict[str, Tensor]:
    model = common.network()
    common.train(model, build(model, kind))
    return common.gathered(model)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_shards_equal_one_process(results: Path, kind: str) -> None:
    check(results, kind, alone(kind))


@pytest.mark.slow
def test_sparsify_sees_all_shards(results: Path) -> None:
    expected = sparsified(common.network())
    assert any(bool((w == 0).all(1).any()) for w in expected.values() if w.ndim == 2)
    check(results, "sparsified", expected)


@pytest.mark.slow
def test_a_whole_checkpoint_goes_to_shards(results: Path) -> None:
    check(results, "resumed", alone("sgd"))
