"""Any sequence of what users do to an optimizer: `DWFOptimizer` against explicit autograd factors."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from hypothesis import HealthCheck, assume, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from torch import Tensor
from torch.nn import Parameter

from dwf_optim import DWFOptimizer
from dwf_optim.step import blocked
from tests.helpers import BASES, Base, assert_same_state, identical, seeded, ulp
from tests.properties.model import Group, Reference, Weight
from tests.reference.autograd import multiply

BY_NAME = {base.name: base for base in BASES}
NAMES = ["SGD-momentum", "Adam", "RMSprop", "AdamW", "Lion"]
SHAPES = [(3, 4), (1, 1), (2, 1, 3), (5,), (1,)]
MAX_GROUPS = 4
TOO_LARGE = 1e4  # a weight that has left for infinity compares nothing

seeds = st.integers(0, 2**32 - 1)
depths = st.integers(1, 4)
penalties = st.sampled_from([0.0, 1e-3, 0.02, 0.2])
inits = st.sampled_from([None, "preserve", "balanced", "dwf", "varmatch"])
picks = st.integers(0, 2**16)  # of a parameter or group, modulo how many there are
Options = dict[str, Any]


def draw(shape: tuple[int, ...], seed: int, transposed: bool = False) -> Tensor:
    values = torch.randn(shape, generator=seeded(seed), dtype=torch.float64) * 0.6
    return values.mT.contiguous().mT if transposed and values.ndim > 1 else values


def share(p: Tensor, seed: int, fraction: float) -> Tensor:
    return torch.rand(p.shape, generator=seeded(seed)) < fraction


def through_disk(value: object) -> Any:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@contextmanager
def warning_of_zeros(expected: bool) -> Iterator[None]:
    """Only the start of an all-zero tensor warns."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    assert all("is all zero" in str(warning.message) for warning in caught)
    assert bool(caught) == expected, [str(warning.message) for warning in caught]


class OptimizerMachine(RuleBasedStateMachine):
    """A model of a few tensors, its `DWFOptimizer`, and the reference, led through the same events."""

    # ------------------------------------------------------------------ start

    @initialize(
        name=st.sampled_from(NAMES),
        depth=depths,
        penalty=penalties,
        init=inits,
        backend=st.sampled_from(["auto", "blocked", "reference"]),
        maximize=st.booleans(),
        block=st.sampled_from([5, 128 * 1024]),
        born_float32=st.booleans(),
        seed=seeds,
    )
    def build(
        self,
        name: str,
        depth: int,
        penalty: float,
        init: str | None,
        backend: str,
        maximize: bool,
        block: int,
        born_float32: bool,
        seed: int,
    ) -> None:
        self.old_block, blocked.BLOCK = blocked.BLOCK, block
        self.base: Base = BY_NAME[name]
        self.options: Options = dict(self.base.options)
        if maximize and self.base.takes("maximize"):
            self.options["maximize"] = True
        self.sign = -1 if self.options.get("maximize") else 1
        if init == "varmatch":  # its heavy tails make some factors stiff
            self.options["lr"] /= 10
        self.fixed: Options = {"backend": backend, "seed": seed % 100}
        self.shared: Options = {"depth": depth, "penalty": penalty, "init": init}
        self.reference = Reference(seed + 1)
        self.params: list[Parameter] = []
        self.weights: list[Weight] = []
        self.dead: list[Tensor] = []  # zeroed by `sparsify`, and not written since
        self.starts: list[Tensor] = []  # values before anything was re-drawn
        self.members: list[int] = []  # how many parameters each group has
        self.added: list[Options] = []
        first = [
            Parameter(draw((3, 4), seed + 2, transposed=seed % 2 == 1)),
            Parameter(draw((3,), seed + 3)),
        ]
        if born_float32:
            for p in first:
                p.data = p.data.float()
        self.starts = [p.detach().clone().double() for p in first]
        self.optimizer = self.construct(first)
        if born_float32:  # as `model.double()` does
            for p in first:
                p.data = p.data.double()
        self.join(first, depth, penalty, init, 2)

    def construct(self, params: list[Parameter]) -> DWFOptimizer:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # balanced factors of even depth
            return DWFOptimizer(
                [(f"first.{i}", p) for i, p in enumerate(params)],
                base=self.base.cls,
                lr_scale=1.0,
                flush=None,
                **self.fixed,
                **self.shared,
                **self.options,
            )

    def add(self, optimizer: DWFOptimizer, p: Parameter, options: Options) -> None:
        name = f"added.{len(optimizer.param_groups)}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            optimizer.add_param_group({"params": [(name, p)], **options})

    def join(
        self, params: list[Parameter], depth: int, penalty: float, init: str | None, min_ndim: int
    ) -> None:
        weights = [
            Weight(depth if p.ndim >= min_ndim else 1, penalized=p.ndim >= min_ndim) for p in params
        ]
        self.reference.groups.append(Group(self.base.cls, self.options, penalty, weights))
        self.members.append(len(params))
        self.params += params
        self.weights += weights
        self.dead += [torch.zeros(p.shape, dtype=torch.bool) for p in params]
        for p, weight in zip(params, weights, strict=True):
            if weight.depth == 1:
                self.reference.start(weight, [p])

    def teardown(self) -> None:
        if hasattr(self, "old_block"):
            blocked.BLOCK = self.old_block

    # ---------------------------------------------------------------- helpers

    def pick(self, number: int) -> int:
        return number % len(self.params)

    def objective(self, w: Tensor, index: int, seed: int) -> Tensor:
        """A loss whose first two derivatives are at most 1, around a target with noise."""
        shape = tuple(self.params[index].shape)
        target = draw(shape, index) + draw(shape, seed + index)
        return self.sign * (1 + (w - target) ** 2).sqrt().sum()

    def fill_gradients(self, params: list[Parameter], seed: int) -> None:
        for index, p in enumerate(params):
            if p.requires_grad:
                self.objective(p, index, seed).backward()

    def fill_reference(self, seed: int) -> None:
        for index, (p, weight) in enumerate(zip(self.params, self.weights, strict=True)):
            if p.requires_grad:
                self.reference.backward(weight, p, lambda w, index=index: self.objective(w, index, seed))

    def forget_gradients(self) -> None:
        for p, weight in zip(self.params, self.weights, strict=True):
            p.grad = None
            weight.upstream = None

    def start_factors(self, indices: list[int]) -> bool:
        """Give the reference the factors that the optimizer is about to make; say if it will warn."""
        late = [i for i in indices if not self.weights[i].leaves]
        zero = any(not self.params[i].any() for i in late)
        if late:
            params, optimizer = copy.deepcopy((self.params, self.optimizer))
            with warning_of_zeros(zero):
                drawn = {i: optimizer.factors(params[i]) for i in late}
            for i, factors in drawn.items():
                self.check_start(i, factors)
                self.reference.start(self.weights[i], factors)
        return zero

    def check_start(self, index: int, factors: list[Tensor]) -> None:
        p = self.params[index].detach()
        assert len(factors) == self.weights[index].depth
        assert all(f.dtype == torch.float64 and f.stride() == p.stride() for f in factors)
        assert bool(((multiply(factors) - p).abs() <= 2 * ulp(p)).all())
        if p.any():
            assert all(torch.equal(f == 0, p == 0) for f in factors)
        else:  # one factor is zero, so that it trains
            assert sum(not f.any() for f in factors) == 1
            assert all(bool(f.all()) or not f.any() for f in factors)

    def step_both(self, optimizer: DWFOptimizer, params: list[Parameter]) -> None:
        having = [i for i, p in enumerate(params) if p.grad is not None]
        zero = self.start_factors(having)
        before = [None if p.grad is None else p.grad.clone() for p in params]
        with warning_of_zeros(zero):
            optimizer.step()
        for p, grad in zip(params, before, strict=True):
            if grad is None or p.grad is None:
                assert p.grad is None
                assert grad is None
            else:
                assert torch.equal(p.grad, grad)
        self.reference.step()
        # Not a bound on rounding: training that diverges proves nothing, so hypothesis looks elsewhere.
        assume(all(bool(w.seen().abs().le(TOO_LARGE).all()) for w in self.weights if w.leaves))

    # ------------------------------------------------------------------ train

    @rule(seed=seeds, steps=st.integers(1, 3), set_to_none=st.booleans())
    def train(self, seed: int, steps: int, set_to_none: bool) -> None:
        for step in range(steps):
            self.zero_grad(set_to_none)
            self.backward(seed + step)
            self.step()

    @rule(seed=seeds)
    def backward(self, seed: int) -> None:
        self.fill_gradients(self.params, seed)
        self.fill_reference(seed)

    @rule()
    def step(self) -> None:
        self.step_both(self.optimizer, self.params)

    @rule(set_to_none=st.booleans())
    def zero_grad(self, set_to_none: bool) -> None:
        self.optimizer.zero_grad(set_to_none=set_to_none)
        for weight in self.weights:
            if set_to_none:
                weight.upstream = None
            elif weight.upstream is not None:
                weight.upstream = torch.zeros_like(weight.upstream)

    @rule(number=picks, stale=st.booleans())
    def freeze(self, number: int, stale: bool) -> None:
        index = self.pick(number)
        self.params[index].requires_grad_(False)
        if not stale:  # a stale gradient is still stepped, as by any torch optimizer
            self.params[index].grad = None
            self.weights[index].upstream = None

    @precondition(lambda self: not all(p.requires_grad for p in self.params))
    @rule()
    def unfreeze(self) -> None:
        for p in self.params:
            p.requires_grad_(True)

    # ----------------------------------------------------------------- groups

    @rule(number=picks, factor=st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    def change_lr(self, number: int, factor: float) -> None:
        index = number % len(self.members)
        lr = self.options["lr"] * factor
        self.optimizer.param_groups[index]["lr"] = lr
        self.reference.groups[index].set_lr(lr)

    @rule(number=picks, penalty=penalties)
    def change_penalty(self, number: int, penalty: float) -> None:
        index = number % len(self.members)
        self.optimizer.param_groups[index]["penalty"] = penalty
        self.reference.groups[index].penalty = penalty

    @precondition(lambda self: len(self.members) < MAX_GROUPS)
    @rule(
        seed=seeds,
        shape=st.sampled_from(SHAPES),
        depth=depths,
        penalty=penalties,
        init=st.sampled_from([None, "preserve", "balanced", "dwf"]),
        min_ndim=st.sampled_from([0, 2]),
        kind=st.sampled_from(["dense", "some zeros", "all zero"]),
    )
    def add_param_group(
        self,
        seed: int,
        shape: tuple[int, ...],
        depth: int,
        penalty: float,
        init: str | None,
        min_ndim: int,
        kind: str,
    ) -> None:
        values = draw(shape, seed, transposed=seed % 2 == 1)
        if kind != "dense":
            values.masked_fill_(share(values, seed, 0.4 if kind == "some zeros" else 1.1), 0)
        p = Parameter(values)
        self.starts.append(values.clone())
        options: Options = {"depth": depth, "penalty": penalty, "init": init, "min_ndim": min_ndim}
        self.add(self.optimizer, p, options)
        self.added.append(options)
        self.join([p], depth, penalty, init, min_ndim)

    # ------------------------------------------------------ writes and zeros

    @rule(
        number=picks,
        seed=seeds,
        how=st.sampled_from(["copy", "some", "clip", "zero", "all zero", "revive", "same", "undone"]),
    )
    def write_outside(self, number: int, seed: int, how: str) -> None:
        index = self.pick(number)
        p, old = self.params[index], self.params[index].detach().clone()
        mask = share(p, seed, 0.4)
        with torch.no_grad():
            if how == "copy":
                p.copy_(draw(tuple(p.shape), seed))
            elif how == "some":
                p.copy_(torch.where(mask, draw(tuple(p.shape), seed), p))
            elif how == "clip":
                p.mul_([-1.5, 0.5, 1.25][seed % 3]).clamp_(-2, 2)
            elif how == "zero":
                p.masked_fill_(mask, 0)
            elif how == "all zero":
                p.zero_()
            elif how == "revive":
                p.masked_fill_((p == 0) & mask, 0.3)
            else:
                p.add_(0.5)
                if how == "same":
                    p.copy_(old)
        new = p.detach().clone()
        self.reference.write(self.weights[index], new != old, new)
        self.dead[index] &= new == 0
        if how == "undone":  # a second write before the optimizer looks
            with torch.no_grad():
                p.copy_(torch.where(mask, old, p))
            self.reference.write(self.weights[index], p.detach() != new, p.detach())

    @rule(number=picks, fraction=st.sampled_from([0.0, 0.3, 0.6, 1.0]))
    def sparsify(self, number: int, fraction: float) -> None:
        index = self.pick(number)
        p, weight = self.params[index], self.weights[index]
        mask = torch.zeros(p.numel(), dtype=torch.bool)
        mask[p.detach().abs().flatten().argsort()[: round(fraction * p.numel())]] = True
        mask = mask.view(p.shape)
        zero = self.start_factors([index])
        with warning_of_zeros(zero):
            self.optimizer.zero_(p, mask)
        self.reference.zero(weight, mask)
        if weight.depth > 1:  # others are revived by their next gradient
            self.dead[index] |= mask

    # ------------------------------------------------------------ checkpoints

    def rebuild(self, index: int) -> Tensor:
        """Make a tensor as a new process would, from elsewhere: the checkpoint has all it needs."""
        return torch.full_like(self.starts[index], 0.7)

    def load_into_fresh(self) -> tuple[list[Parameter], DWFOptimizer]:
        saved = through_disk(self.optimizer.state_dict())
        weights = through_disk([p.detach() for p in self.params])
        fresh = [Parameter(self.rebuild(index)) for index in range(len(self.params))]
        for new, p in zip(fresh, self.params, strict=True):
            new.requires_grad_(p.requires_grad)
        optimizer = self.construct(fresh[:2])
        for p, options in zip(fresh[2:], self.added, strict=True):
            self.add(optimizer, p, options)
        with torch.no_grad():
            for p, value in zip(fresh, weights, strict=True):
                p.copy_(value)
        optimizer.load_state_dict(saved)
        return fresh, optimizer

    @rule(how=st.sampled_from(["load", "deepcopy", "pickle"]), go_on=st.booleans(), seed=seeds)
    def duplicate(self, how: str, go_on: bool, seed: int) -> None:
        """Go on with the duplicate; with `go_on`, beside the original for a step."""
        old_params, old = self.params, self.optimizer
        self.forget_gradients()
        if how == "load":
            params, optimizer = self.load_into_fresh()
        elif how == "deepcopy":
            params, optimizer = copy.deepcopy((self.params, self.optimizer))
        else:
            params, optimizer = pickle.loads(pickle.dumps((self.params, self.optimizer)))
        assert identical([p.detach() for p in params], [p.detach() for p in old_params])
        assert_same_state(optimizer, old)
        self.params, self.optimizer = params, optimizer
        if go_on:
            self.fill_gradients(old_params, seed)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                old.step()
            self.backward(seed)
            self.step()
            assert identical([p.detach() for p in params], [p.detach() for p in old_params])
            assert_same_state(optimizer, old)

    # ------------------------------------------------------------- invariants

    @invariant()
    def weights_are_the_references(self) -> None:
        for index, (p, weight) in enumerate(zip(self.params, self.weights, strict=True)):
            if not weight.leaves:
                continue
            self.check_near(f"weight {index}", p, weight.seen(), weight)
            if weight.depth > 1 and weight.written is None:
                for d, leaf in enumerate(weight.leaves):
                    factor = self.optimizer.state[p][f"factor.{d}"]
                    self.check_near(f"factor {d} of {index}", factor, leaf.detach(), weight)

    def check_near(self, what: str, found: Tensor, rows: Tensor, weight: Weight) -> None:
        error, allowed = (found.detach() - rows[0]).abs(), weight.tolerance(rows)
        if not bool((error <= allowed).all()):  # NaN fails, too
            note(f"{what}: found {found.detach()}, expected {rows[0]}, allowed error {allowed}")
            raise AssertionError(f"{what} is off by up to {float((error - allowed).max()):.3g} too much")

    @invariant()
    def zeros_stay_zero(self) -> None:
        for p, dead in zip(self.params, self.dead, strict=True):
            assert not p.detach()[dead].any()

    @invariant()
    def state_has_the_checkpoints_keys(self) -> None:
        for p, weight in zip(self.params, self.weights, strict=True):
            state = self.optimizer.state.get(p, {})
            expected: set[str] = set()
            for d, base_state in enumerate(self.reference.state_of(weight)):
                prefix = f"base.{d}." if weight.depth > 1 else ""
                expected |= {prefix + key for key in base_state}
                if weight.depth > 1:
                    expected.add(f"factor.{d}")
            assert set(state) == expected
            for key, value in state.items():
                assert isinstance(value, (Tensor, int, float))
                if isinstance(value, Tensor) and value.ndim > 0:
                    assert value.shape == p.shape, key
                    assert value.dtype == p.dtype, key


_profile = settings()
TestOptimizer = OptimizerMachine.TestCase
TestOptimizer.settings = settings(
    # An example is a whole run, so `ci` takes fewer of them than of other properties.
    max_examples=_profile.max_examples if _profile.max_examples > 50 else 25,
    stateful_step_count=50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
