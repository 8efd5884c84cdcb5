"""Over the inputs of torch's own optimizer suite: state dicts, hooks, copies, groups, complex."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from tests.contract.common import randn, through_disk
from tests.contract.suite import (
    Config,
    Regression,
    dense_configs,
    factorized_configs,
    low_rates,
    some_configs,
)
from tests.helpers import assert_same_state, identical

pytestmark = low_rates


def stepped(config: Config, options: dict[str, Any], steps: int = 2) -> tuple[Regression, Any]:
    problem = Regression()
    optimizer = config.build(problem.params, **options)
    problem.train(optimizer, steps)
    return problem, optimizer


def successor(config: Config, options: dict[str, Any], problem: Regression) -> tuple[Regression, Any]:
    """A fresh optimizer over the weights as they now are."""
    other = Regression()
    for p, q in zip(other.params, problem.params, strict=True):
        p.data = q.detach().clone()
    return other, config.build(other.params, **options)


def assert_go_on_alike(one: tuple[Regression, Any], two: tuple[Regression, Any], steps: int = 3) -> None:
    for problem, optimizer in (one, two):
        problem.train(optimizer, steps)
    assert identical(one[0].params, two[0].params)


@some_configs
def test_state_dict_is_deterministic(config: Config) -> None:
    for options in config.inputs():
        one, two = stepped(config, options), stepped(config, options)
        assert_same_state(one[1], two[1])
        keys = [list(state) for state in one[1].state_dict()["state"].values()]
        assert keys == [list(state) for state in two[1].state_dict()["state"].values()]
        resumed = successor(config, options, one[0])
        resumed[1].load_state_dict(copy.deepcopy(one[1].state_dict()))
        assert_same_state(one[1], resumed[1])
        assert_go_on_alike(one, resumed)


@some_configs
def test_save_and_load_with_weights_only(config: Config) -> None:
    for options in config.inputs():
        one = stepped(config, options)
        resumed = successor(config, options, one[0])
        resumed[1].load_state_dict(through_disk(one[1].state_dict()))
        assert_same_state(one[1], resumed[1])
        assert_go_on_alike(one, resumed)


@some_configs
def test_older_checkpoint_without_the_newer_flags(config: Config) -> None:
    for options in config.inputs():
        if options.get("maximize"):
            continue  # an option that an old version did not have, and which changes the run
        one = stepped(config, options)
        saved = copy.deepcopy(one[1].state_dict())
        for group in saved["param_groups"]:
            for flag in config.info.not_og_supported_flags:
                group.pop(flag, None)
        resumed = successor(config, options, one[0])
        resumed[1].load_state_dict(saved)
        assert resumed[1].param_groups[0].keys() == one[1].param_groups[0].keys()
        assert_go_on_alike(one, resumed)


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("loads_named", [False, True])
@factorized_configs
def test_named_state_dicts(config: Config, named: bool, loads_named: bool) -> None:
    def give(params: list[Parameter], with_names: bool) -> list[Any]:
        return [(f"name{i}", p) for i, p in enumerate(params)] if with_names else params

    for options in config.inputs():
        problem = Regression()
        optimizer = config.build(give(problem.params, named), **options)
        problem.train(optimizer, 2)
        other = Regression()
        for p, q in zip(other.params, problem.params, strict=True):
            p.data = q.detach().clone()
        resumed = config.build(give(other.params, loads_named), **options)
        resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        assert_go_on_alike((problem, optimizer), (other, resumed))
        assert ("param_names" in resumed.param_groups[0]) == (named or loads_named)


# ------------------------------------------------------------------------------ hooks, copies


@some_configs
def test_step_hooks(config: Config) -> None:
    problem, optimizer = Regression(), None
    seen: list[str] = []
    handles = [
        register_optimizer_step_pre_hook(lambda *_: seen.append("global pre")),
        register_optimizer_step_post_hook(lambda *_: seen.append("global post")),
    ]
    try:
        optimizer = config.build(problem.params, lr=0.01)
        assert seen == []  # building probes the base, which is no step of the user's
        optimizer.register_step_pre_hook(lambda *_: seen.append("pre"))
        post = optimizer.register_step_post_hook(lambda *_: seen.append("post"))
        problem.train(optimizer, 2)
        assert sorted(seen) == sorted(2 * ["global pre", "pre", "post", "global post"])
        post.remove()
        seen.clear()
        problem.train(optimizer, 1)
        assert "post" not in seen
        assert len(seen) == 3
    finally:
        for handle in handles:
            handle.remove()


@some_configs
def test_deepcopy_has_all_public_attributes(config: Config) -> None:
    for options in config.inputs():
        _, optimizer = stepped(config, options, steps=1)
        copied = copy.deepcopy(optimizer)
        for each in (optimizer, copied):
            assert all(hasattr(each, name) for name in ("defaults", "state", "param_groups"))
        public = {key for key in vars(optimizer) if not key.startswith("_")}
        assert public == {key for key in vars(copied) if not key.startswith("_")}
        assert repr(copied) == repr(optimizer)


@some_configs
def test_printable(config: Config) -> None:
    for options in config.inputs():
        params = Regression().params
        text = repr(config.build([{"params": [p]} for p in params], **options))
        assert "Parameter Group 1" in text
        for key in options:
            assert f"{key}: " in text


@factorized_configs
def test_groups_of_their_own_rate_and_decay(config: Config) -> None:
    """A group's options win over the defaults; what gets no gradient stays."""
    for options in config.inputs(foreach=False):
        problem = Regression()
        weight, bias = problem.params
        irrelevant = Parameter(randn(2, 2, seed=9))
        before = irrelevant.detach().clone()
        groups = [
            {"params": [weight], **options},
            {"params": [bias], "lr": 0.01},
            {"params": [irrelevant]},
        ]
        optimizer = config.build(groups, lr=0.5)
        rate = options.get("lr", 0.5)
        assert [group["lr"] for group in optimizer.param_groups] == [rate, 0.01, 0.5]
        problem.train(optimizer, 3)
        assert torch.equal(irrelevant, before)
        assert irrelevant not in optimizer.state


# ------------------------------------------------------------------------------------- complex


@some_configs
def test_complex_is_the_bases_or_refused(config: Config) -> None:
    def weights() -> list[Parameter]:
        return [Parameter(torch.complex(randn(3, 2, seed=1), randn(3, 2, seed=2)))]

    for options in config.inputs():
        ours, plain = weights(), weights()
        if config.depth > 1:
            with pytest.raises(TypeError, match=r"complex parameters .*view_as_real"):
                config.build(ours, **options)
            continue
        for params, optimizer in (
            (ours, config.build(ours, **options)),
            (plain, config.info.optim_cls(plain, **options)),
        ):
            for _ in range(4):
                optimizer.zero_grad()
                (params[0] - 1j).abs().square().sum().backward()
                optimizer.step()
        views: list[list[Tensor]] = [
            [torch.view_as_real(p.detach()) for p in ps] for ps in (ours, plain)
        ]
        assert identical(*views)


@dense_configs
def test_checkpoint_with_a_step_that_is_a_number(config: Config) -> None:
    """Old torch checkpoints hold Python numbers; the bases' own __setstate__ makes them tensors."""
    for options in config.inputs():
        one = stepped(config, options)
        saved = copy.deepcopy(one[1].state_dict())
        for state in saved["state"].values():
            if "step" in state:
                state["step"] = float(state["step"])
        resumed = successor(config, options, one[0])
        resumed[1].load_state_dict(saved)
        assert_go_on_alike(one, resumed)
