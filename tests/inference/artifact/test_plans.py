"""A plan in a file: used where it was measured, and nowhere else."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

import inference
from benchmarks.networks import prune_
from inference import native
from inference.artifact import keys
from inference.machine import machine
from inference.plan import Choice, Plan
from tests.inference.artifact.native.files import put_together, take_apart


def mlp():
    torch.manual_seed(0)
    return prune_(nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 4)), 0.9).eval()


def measured(kernel, where):
    """Return a plan that no static one is."""
    return Plan("measured", {2: Choice(kernels={"0": kernel}), 7: Choice()}, where)


def saved(plan, path):
    inference.compile(mlp(), torch.zeros(1, 40), plan=plan).save(path)
    return path


def test_a_plan_of_this_machine_is_used_and_nothing_is_measured(tmp_path):
    plan = measured("dense", machine())
    loaded = inference.load(saved(plan, tmp_path / "model.dwf"))
    assert loaded.plan == plan
    if native.is_built():
        assert loaded.inspect().layers[0].kernels[2] == "dense"


def test_a_plan_of_another_machine_gives_way_to_a_static_one(tmp_path):
    loaded = inference.load(saved(measured("dense", "Z80, sse0"), tmp_path / "model.dwf"))
    assert loaded.plan == Plan("static", {2: Choice(), 7: Choice()})


def test_kernels_that_are_no_more_give_way_to_a_static_plan(tmp_path):
    path = saved(measured("dense", machine()), tmp_path / "model.dwf")
    outer, inner, data = take_apart(path.read_bytes())
    inner[keys.PLAN]["choices"]["2"]["kernels"]["0"] = "quantum"
    path.write_bytes(put_together(outer, inner, data))
    assert inference.load(path).plan == Plan("static", {2: Choice(), 7: Choice()})


def test_a_plan_is_measured_on_request_for_the_same_batch_sizes(tmp_path):
    path = saved(measured("dense", "Z80, sse0"), tmp_path / "model.dwf")
    plan = inference.load(path, plan="measure").plan
    assert list(plan.choices) == [2, 7]
    if native.is_built():
        assert (plan.source, plan.machine) == ("measured", machine())


def test_models_of_integers_are_measured_too(tmp_path):
    model = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 2)).eval()
    ids = torch.randint(9, (5, 3))
    inference.compile(model, ids, plan="static").save(tmp_path / "model.dwf")
    loaded = inference.load(tmp_path / "model.dwf", plan="measure")
    torch.testing.assert_close(loaded(ids), model(ids).detach())


def test_static_and_given_plans(tmp_path):
    path = saved(measured("dense", machine()), tmp_path / "model.dwf")
    assert inference.load(path, plan="static").plan == Plan("static", {2: Choice(), 7: Choice()})
    given = Plan("static", {5: Choice(native=False)})
    assert inference.load(path, plan=given).plan is given
    with pytest.raises(
        ValueError, match="plan must be 'saved', 'static', 'measure' or a Plan, got 'fast'"
    ):
        inference.load(path, plan="fast")


def test_measuring_notes_the_machine():
    plan = inference.compile(mlp(), torch.zeros(1, 40), batch_sizes=[1]).plan
    if native.is_built():
        assert plan.machine == machine()
        assert native.instruction_sets()[-1] in machine()
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_plans_for_too_many_sizes_are_not_saved(tmp_path):
    plan = Plan("static", {size: Choice() for size in range(1, keys.MAX_CHOICES + 2)})
    with pytest.raises(ValueError, match="64 batch sizes, not 65"):
        saved(plan, tmp_path / "model.dwf")
    assert not list(tmp_path.iterdir())
