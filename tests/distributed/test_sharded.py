"""FSDP2 and tensor parallelism: factors sharded like their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.optim import SGD

from dwf_optim import DWFOptimizer, sparsify
from tests.distributed import common
from tests.helpers import seeded

RUNS = [
    ("sgd", "preserve"),
    ("sgd", "balanced"),
    ("sgd", "dwf"),
    ("adamw", "preserve"),
    ("adamw", "varmatch"),
]
# All ranks hold a part; or one group of replicas, whose only member holds all.
MESHES = {"shards": (2,), "replicas of shards": (2, 1), "one replica of shards": (1, 2)}


def sharded(mesh: tuple[int, ...] = (2,), dtype: torch.dtype = torch.float64) -> nn.Module:
    names = ("replicate", "shard")[-len(mesh) :]
    model = common.network().to(dtype)
    device_mesh = init_device_mesh("cpu", mesh, mesh_dim_names=names)
    for layer in model[::2]:
        fully_shard(layer, mesh=device_mesh)
    return fully_shard(model, mesh=device_mesh)


def work(rank: int, folder: Path) -> None:
    for kind, init in RUNS:
        model = sharded()
        optimizer = common.build(model.parameters(), kind, init=init)
        common.train(model, optimizer)
        common.save(common.gathered(model), folder, f"{kind}-{init}-{rank}")
    for p in model.parameters():
        for value in optimizer.state[p].values():
            if value.ndim > 0:
                assert isinstance(value, DTensor)
                assert (value.placements, value.shape) == (p.placements, p.shape)
    for name, mesh in MESHES.items():
        model = sharded(mesh)
        common.train(model, common.build(model.parameters(), "sgd"))
        common.save(common.gathered(model), folder, f"{name}-{rank}")
    common.save(tensor_parallel(), folder, f"tensor parallel-{rank}")
    common.save(switched(sharded()), folder, f"switched-{rank}")
    common.save(written(sharded()), folder, f"written-{rank}")
    weights, zeros, report = sparsified(sharded())
    common.save([weights, zeros], folder, f"sparsified-{rank}")
    (folder / f"report-{rank}.txt").write_text(report)


def tensor_parallel() -> dict[str, Tensor]:
    """Every rank sees the whole batch and has a part of each layer."""
    model = common.network()
    mesh = init_device_mesh("cpu", (2,))
    parallelize_module(model, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
    optimizer = common.build(model.parameters(), "sgd")
    inputs, targets = common.data()
    for _ in range(common.STEPS):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(inputs), targets).backward()
        optimizer.step()
    return common.gathered(model)


def switched(model: nn.Module) -> dict[str, Tensor]:
    """A plain optimizer, and from the fourth step on ours with its momentum."""
    plain = SGD(model.parameters(), lr=0.02, momentum=0.9)
    common.train(model, plain, 3)
    common.train(model, DWFOptimizer.wrap(plain, penalty=1e-3), 3)
    return common.gathered(model)


def written(model: nn.Module) -> dict[str, Tensor]:
    """Weights written from outside, in ways that leave traces and in one that does not."""
    optimizer = common.build(model.parameters(), "sgd")
    common.train(model, optimizer, 2)
    with torch.no_grad():
        model[0].weight.mul_(0.5)
    model[2].weight.data.mul_(0.5)
    common.train(model, optimizer, 2)
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    common.train(model, optimizer, 2)
    return common.gathered(model)


def sparsified(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor], str]:
    """Half of the weights gone, and two more steps."""
    optimizer = common.build(model.parameters(), "sgd")
    common.train(model, optimizer, 3)

    def metric(model: nn.Module) -> float:
        with torch.no_grad():
            return -float(nn.functional.mse_loss(model(common.data()[0]), common.data()[1]))

    report = str(sparsify(model, optimizer, sparsity=0.5, evaluate=metric))
    zeros = {name: weight == 0 for name, weight in common.gathered(model).items() if weight.ndim > 1}
    common.train(model, optimizer, 2)
    return common.gathered(model), zeros, report


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharded")
    common.spawn(work, folder)
    return folder


def of_both(results: Path, name: str) -> Any:
    first, second = (common.load(results, f"{name}-{rank}") for rank in range(2))
    return first, second


def assert_both_equal(results: Path, name: str, expected: dict[str, Tensor]) -> None:
    for found in of_both(results, name):
        common.assert_equal_but_for_rounding(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "init"), RUNS)
def test_shards_equal_one_process(results: Path, kind: str, init: str) -> None:
    assert_both_equal(results, f"{kind}-{init}", common.alone(kind, init=init))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*MESHES, "tensor parallel"])
def test_meshes_equal_one_process(results: Path, name: str) -> None:
    assert_both_equal(results, name, common.alone("sgd"))


@pytest.mark.slow
def test_switching_over_equals_one_process(results: Path) -> None:
    assert_both_equal(results, "switched", switched(common.network()))


@pytest.mark.slow
def test_writes_from_outside_are_followed(results: Path) -> None:
    expected = written(common.network())
    assert_both_equal(results, "written", expected)
    # What was zeroed stays zero; biases have no factors.
    assert all(bool((weight == 0).all()) == (weight.ndim > 1) for weight in expected.values())


@pytest.mark.slow
def test_sparsify_sees_all_shards(results: Path) -> None:
    weights, zeros, report = sparsified(common.network())
    for found, found_zeros in of_both(results, "sparsified"):
        common.assert_equal_but_for_rounding(found, weights)
        assert all(torch.equal(found_zeros[name], zero) for name, zero in zeros.items())
        assert all(torch.equal(found[name] == 0, zero) for name, zero in zeros.items())
    for rank in range(2):
        assert (results / f"report-{rank}.txt").read_text() == report


def test_sums_over_ranks_are_refused(tmp_path: Path) -> None:
    common.spawn(refuse, tmp_path, world=1)


def refuse(rank: int, folder: Path) -> None:
    from torch.distributed.tensor import Partial

    mesh = init_device_mesh("cpu", (1,))
    weight = torch.randn(3, 2, generator=seeded(0))
    p = nn.Parameter(DTensor.from_local(weight, mesh, [Partial()]))
    with pytest.raises(TypeError, match=r"sums over ranks .*\(3, 2\).* redistribute"):
        common.build([p], "sgd")
