"""The base optimizer as a stateless engine.

`Engine` owns one instance of the user's optimizer class, built on a dummy parameter, and lends it
tensors, gradients, state and options for the length of one call. Nothing lives in it between calls,
so there is nothing that load_state_dict, add_param_group or a sharding framework could leave stale.
"""

from __future__ import annotations

import functools
import inspect
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from dwf_optim.learning_rate import BaseKind
from dwf_optim.state import State

# Refused by name, with the reason; what is not listed is probed for acting element by element.
_REFUSED = {
    "LBFGS": "it re-evaluates the loss within a step and mixes all parameters",
    "SparseAdam": "it takes sparse gradients only, and factor gradients are dense",
    "Muon": "it orthogonalizes whole matrices",
    "Adafactor": "it keeps row and column statistics",
    "Shampoo": "it preconditions whole matrices",
    "SOAP": "it preconditions whole matrices",
    "LAMB": "it scales steps by a layer's norm",
    "Lamb": "it scales steps by a layer's norm",
    "LARS": "it scales steps by a layer's norm",
    "SAM": "it takes two gradients a step",
    "DWFOptimizer": "it is what steps a base; name the base of that one",
}
_ADVICE = "use an elementwise base: SGD, Adam, AdamW, NAdam, RAdam, RMSprop, Adagrad, ..."

# What a probe leaves at the class's own default: flags that choose an implementation or a device,
# the direction, and the decay, which would hide how a step depends on the gradient.
_NOT_PROBED = ("lr", "foreach", "fused", "capturable", "maximize", "weight_decay", "differentiable")


class Engine:
    """A base optimizer class with its options, ready to step any tensors.

    Args:
        base: A subclass of `torch.optim.Optimizer` that acts element by element.
        options: Constructor options of ``base``, without ``params``.

    Raises:
        TypeError: If ``base`` is no optimizer class.
        ValueError: If ``base`` cannot work on factors, or refuses ``options`` itself.
    """

    def __init__(self, base: type[Optimizer], options: dict[str, Any]) -> None:
        _check_class(base)
        self.base = base
        self._optimizer = self._build(options)
        self.defaults: dict[str, Any] = dict(self._optimizer.defaults)
        if self.defaults.get("differentiable"):
            raise ValueError(
                "differentiable=True is not supported: the step through the factors is not recorded by "
                "autograd; leave it out"
            )
        self._probed = {key: value for key, value in options.items() if key not in _NOT_PROBED}
        self.kind: BaseKind = _kind(base, self._probed)

    def is_odd(self) -> bool:
        """Say whether ``-tensor`` and ``-gradient`` are stepped as the mirror image of both."""
        start, grads = _probe_tensors()
        ends = []
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            for sign in (1, -1):
                *_, end = _trajectory(self.base, self._probed, sign * start, sign * grads)
                ends.append(sign * end)
        return torch.allclose(ends[0], ends[1], rtol=1e-9, atol=0)

    def _build(self, options: dict[str, Any]) -> Optimizer:
        return self.base([torch.zeros(1)], **options)

    def upgrade(self, options: dict[str, Any], tensors: Sequence[Tensor], states: list[State]) -> None:
        """Let the base bring loaded state to its present form, as its own ``__setstate__`` would.

        Args:
            options: The base's group options.
            tensors: What the states belong to.
            states: One dict per tensor; updated in place.
        """
        group = {**options, "params": list(tensors)}
        optimizer = self._optimizer
        optimizer.__setstate__(
            {"state": defaultdict(dict, zip(tensors, states, strict=True)), "param_groups": [group]}
        )
        optimizer.param_groups = []
        optimizer.state = defaultdict(dict)

    def validate(self, group: dict[str, Any]) -> None:
        """Let the base's constructor judge a group's options.

        Args:
            group: A parameter group; keys the base does not know are ignored.

        Raises:
            ValueError: Whatever the base raises.
        """
        options = {key: group[key] for key in self.defaults if key in group}
        self._build(constructor_options(self.base, options))

    def step(
        self,
        options: dict[str, Any],
        tensors: Sequence[Tensor],
        grads: Sequence[Tensor] | None,
        states: list[State],
    ) -> dict[str, Any]:
        """Take one step of the base.

        Args:
            options: The base's group options (``lr``, ``momentum``, ...).
            tensors: What is stepped, in place.
            grads: Their gradients, or None to use the ``.grad`` they carry.
            states: One dict per tensor as the base keeps it, empty at first; updated in place.

        Returns:
            The group options after the step, which a base may have changed (a counter of its own).
        """
        if grads is not None:
            for tensor, grad in zip(tensors, grads, strict=True):
                tensor.grad = grad
        lent = defaultdict(dict, zip(tensors, states, strict=True))
        try:
            after = self.run(options, tensors, lent)
            for tensor, state in zip(tensors, states, strict=True):
                new = lent.get(tensor, {})
                if new is not state:
                    state.clear()
                    state.update(new)
        finally:
            if grads is not None:
                for tensor in tensors:
                    tensor.grad = None
        return after

    def run(
        self, options: dict[str, Any], tensors: Sequence[Tensor], states: defaultdict[Tensor, State]
    ) -> dict[str, Any]:
        """Take one step of the base on tensors, by the ``.grad`` they carry.

        Args:
            options: The base's group options.
            tensors: What is stepped, in place.
            states: What the base keeps, by tensor; updated in place.

        Returns:
            As `step`.
        """
        optimizer = self._optimizer
        group = {**options, "params": list(tensors)}
        optimizer.param_groups = [group]
        optimizer.state = states
        try:
            _undecorated_step(type(optimizer))(optimizer)
        finally:
            optimizer.param_groups = []
            optimizer.state = defaultdict(dict)
        del group["params"]
        return group


def constructor_options(base: type[Optimizer], options: dict[str, Any]) -> dict[str, Any]:
    """Keep of an optimizer's defaults what its constructor takes.

    Some classes keep more in their defaults than they accept (AdamW's ``decoupled_weight_decay``).
    """
    parameters = inspect.signature(base).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return dict(options)
    return {key: value for key, value in options.items() if key in parameters}


def constructor_default(base: type[Optimizer], option: str) -> Any:
    """Return what an optimizer's constructor takes for an option that is not given."""
    return inspect.signature(base).parameters[option].default


def _undecorated_step(base: type[Optimizer]) -> Callable[[Optimizer], object]:
    """Return the step below torch's hook wrapper: hooks and profiler ranges belong to our step."""
    step: Any = base.step
    return step.__wrapped__ if getattr(step, "hooked", False) else step  # type: ignore[no-any-return]


def _check_class(base: object) -> None:
    if isinstance(base, Optimizer):
        raise TypeError(
            f"base must be an optimizer class, got an instance of {type(base).__name__}; use "
            "DWFOptimizer.wrap(optimizer, penalty=...) to wrap a built optimizer"
        )
    if not (isinstance(base, type) and issubclass(base, Optimizer)):
        raise TypeError(
            f"base must be a subclass of torch.optim.Optimizer, such as torch.optim.SGD, got {base!r}"
        )
    for cls in base.__mro__:
        if cls.__name__ in _REFUSED:
            raise ValueError(f"{base.__name__} cannot be a base: {_REFUSED[cls.__name__]}; {_ADVICE}")


def _kind(base: type[Optimizer], options: dict[str, Any]) -> BaseKind:
    """Probe a base once for the same options."""
    try:
        # mypy takes a class for unhashable where its instances' __hash__ is untyped
        return _cached_kind(base, tuple(sorted(options.items())))  # type: ignore[arg-type]
    except TypeError:  # an option that cannot be hashed
        return _probe_kind(base, options)


@functools.lru_cache(maxsize=64)
def _cached_kind(base: Callable[..., Optimizer], options: tuple[tuple[str, Any], ...]) -> BaseKind:
    return _probe_kind(base, dict(options))


def _probe_kind(base: Callable[..., Optimizer], options: dict[str, Any]) -> BaseKind:
    """Run a base on a small tensor to see how it acts.

    Stepped with g and with 2g, an SGD-type base moves twice as far and an Adam-type one as far.
    Stepped whole and in pieces, an elementwise base does the same. Twenty steps, because some bases
    (RAdam) begin as one kind and go on as the other.

    Args:
        base: The base's class.
        options: Its options, without ``lr``.

    Returns:
        The base's kind.

    Raises:
        ValueError: If the base does not act element by element, or needs a closure.
    """
    start, grads = _probe_tensors()

    def last_step(pieces: Sequence[slice], gain: float) -> Tensor:
        ends = []
        for piece in pieces:
            *_, before, end = _trajectory(base, options, start[piece], gain * grads[:, piece])
            ends.append(end - before)
        return torch.cat(ends)

    name = getattr(base, "__name__", repr(base))
    whole = [slice(0, 4)]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            once, twice = last_step(whole, 1.0), last_step(whole, 2.0)
            apart = last_step([slice(0, 1), slice(1, 4)], 1.0)
        except TypeError as error:
            raise ValueError(
                f"{name} cannot be a base: its step() does not run without arguments ({error}); "
                f"{_ADVICE}"
            ) from error
    if not torch.allclose(once, apart, rtol=1e-9, atol=0):
        raise ValueError(
            f"{name} cannot be a base: it does not act element by element (a tensor and its pieces "
            f"move differently); {_ADVICE}"
        )
    # sqrt(2) parts "as far" from "twice as far".
    return "sgd" if float(twice.norm()) > 2**0.5 * float(once.norm()) else "adam"


def _probe_tensors() -> tuple[Tensor, Tensor]:
    """Return where a probe starts, and the gradients of its 20 steps."""
    generator = torch.Generator().manual_seed(0)
    start = torch.rand(4, 3, generator=generator, dtype=torch.float64) + 0.5
    return start, torch.randn(20, 4, 3, generator=generator, dtype=torch.float64)


def _trajectory(
    base: Callable[..., Optimizer], options: dict[str, Any], start: Tensor, grads: Tensor
) -> list[Tensor]:
    """Return a tensor at the start and after every step of a fresh base."""
    tensor = start.clone()
    optimizer = base([tensor], **options, lr=0.01)
    trajectory = [start]
    for grad in grads:
        tensor.grad = grad.clone()
        _undecorated_step(type(optimizer))(optimizer)
        trajectory.append(tensor.detach().clone())
    return trajectory
