"""What a parameter group says about factorization, validated, as one object."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any, Literal

import torch
from torch import Tensor

from dwf_optim.base import Engine
from dwf_optim.init import INITS
from dwf_optim.notify import warn
from dwf_optim.sharding import is_sharded
from dwf_optim.state import FORMAT, State
from dwf_optim.storage import STORAGES, Gated, Storage
from dwf_optim.structure import Structure, check_structure, is_elementwise

MAX_DEPTH = 8
FLUSHES = (None, "dead")


@dataclass(frozen=True)
class Factorization:
    """The validated factorization options of one parameter group.

    Attributes:
        depth: ``D``, the number of factors, 1 to 8; 1 leaves the tensors to the base.
        penalty: ``lambda`` in ``L + lambda ||w||_{2/D}^{2/D}``, finite and >= 0.
        storage: "full": every factor is kept. "tied": one root for all of them. "ephemeral": the base's
            state only.
        init: Name of the initialization; None becomes "preserve", and "balanced" where one root is kept.
        structure: Which weights share gates: None or "elementwise" for none, a name in
            `dwf_optim.structure.STRUCTURES`, one with its number, or a tuple of dimensions.
        weigh_by_size: Whether a group's penalty is multiplied by the root of its number of weights.
        lr_scale: "auto" or a positive number.
        min_ndim: Tensors with fewer dimensions are left to the base, without penalty.
        flush: "dead" zeroes weights killed by underflow; None does not.
    """

    depth: int
    penalty: float
    storage: str
    init: str
    structure: Structure
    weigh_by_size: bool
    lr_scale: float | Literal["auto"]
    min_ndim: int
    flush: str | None

    @classmethod
    def from_group(cls, group: Mapping[str, Any]) -> Factorization:
        """Validate a parameter group's options.

        Args:
            group: Holds every field of this class by name.

        Returns:
            The validated options.

        Raises:
            TypeError: If an option has the wrong type.
            ValueError: If an option has the right type and an impossible value.
        """
        values = _values_of(group)
        try:
            return _validate_once(*values)
        except TypeError:  # the validation's own, or of an option that cannot be hashed
            pass
        return _validate(*values)

    @functools.cached_property
    def mode(self) -> Storage:
        """How the factors are kept."""
        if self.structure is None or is_elementwise(self.structure):
            return STORAGES[self.storage]
        return Gated(self.structure, self.weigh_by_size)

    def factorizes(self, ndim: int) -> bool:
        """Say whether a tensor with this many dimensions is split into factors."""
        return self.depth > 1 and ndim >= self.min_ndim

    def factors(self, p: Tensor, state: State) -> list[Tensor]:
        """Return the factors of a parameter with a state, as `DWFOptimizer.factors` does."""
        return self.mode.factors(self.mode.kept(state, self.depth), p, self.depth)

    def penalty_of(self, ndim: int) -> float:
        """Return the penalty on a tensor with this many dimensions; 0 for those left to the base."""
        return self.penalty if ndim >= self.min_ndim else 0.0

    def check(self, p: Tensor) -> None:
        """Refuse a parameter that cannot be trained, or not with factors.

        Raises:
            TypeError: With the way out.
        """
        if not (p.is_floating_point() or p.is_complex()):
            raise TypeError(
                f"cannot train a parameter of dtype {p.dtype}: convert it to a floating dtype"
            )
        if not self.factorizes(p.ndim):
            return
        what = f"({p.dtype}, {p.layout}, shape {tuple(p.shape)})"
        if p.is_complex():
            raise TypeError(
                f"complex parameters {what} are not factorized: give their group depth=1, or make "
                "torch.view_as_real(p) the parameter"
            )
        if is_sharded(p) and any(placement.is_partial() for placement in p.placements):
            raise TypeError(
                f"parameters that are sums over ranks {what} are not factorized: redistribute them to "
                "shards or replicas, or give their group depth=1"
            )
        if p.layout != torch.strided:
            raise TypeError(f"sparse parameters {what} are not factorized: give their group depth=1")
        self.mode.check_dtype(p.dtype)
        self.mode.check(p)

    def check_base(self, engine: Engine) -> None:
        """Refuse a base under which the storage would compute something else.

        Raises:
            ValueError: With the way out.
        """
        if self.depth > 1:
            self.mode.check_base(engine)

    def warn_if_unwise(self) -> None:
        """Warn about options that are legal and nearly always a mistake."""
        if self.init == "balanced" and self.depth % 2 == 0:
            other = "init='preserve'" if self.storage == "full" else "storage='full'"
            warn(
                f"init='balanced' with even depth {self.depth}: such a weight can never change its "
                f"sign, so those that start on the wrong side end at zero; use an odd depth, or {other}",
            )


# The names of the options, which are the keys of a parameter group.
OPTIONS = tuple(field.name for field in fields(Factorization))
_values_of: Callable[[Mapping[str, Any]], tuple[Any, ...]] = operator.itemgetter(*OPTIONS)


def _validate(*values: Any) -> Factorization:
    options = dict(zip(OPTIONS, values, strict=True))
    options["depth"] = _depth(options["depth"])
    options["penalty"] = _penalty(options["penalty"])
    _one_of("storage", options["storage"], tuple(STORAGES))
    check_structure(options["structure"], options["storage"], options["weigh_by_size"])
    options["init"] = _init(options["init"], options["storage"], options["structure"])
    _one_of("flush", options["flush"], FLUSHES)
    options["lr_scale"] = _lr_scale(options["lr_scale"])
    options["min_ndim"] = _count("min_ndim", options["min_ndim"])
    return Factorization(**options)


# Every step asks again, because a group is anybody's to change. Values are remembered with their types:
# True is no depth, though it equals 1.
_validate_once = functools.lru_cache(maxsize=256, typed=True)(_validate)


# What a group holds beside options: the checkpoint's format, whose base state it has, and what a run has
# fixed or summed up.
RUN_KEYS: dict[str, Any] = {
    "format": FORMAT,
    "base_name": None,
    "resolved_lr_scale": None,
    "lr_sum": 0.0,
    "penalty_sum": 0.0,
    "steps": 0,
}

# What a penalty scheduler notes in a group: the penalty before it was scheduled.
INITIAL_PENALTY = "initial_penalty"

# Options of the optimizer that no group can have of its own.
OF_ALL_GROUPS = frozenset({"base", "backend", "seed"})

# All keys of a group that are ours or torch's; everything else is the base's.
OWN_KEYS = OF_ALL_GROUPS.union(OPTIONS, RUN_KEYS, (INITIAL_PENALTY, "params", "param_names"))


def without_common(group: Mapping[str, Any], common: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what all groups share; ZeroRedundancyOptimizer repeats it in each.

    Args:
        group: As the user gives it.
        common: What all groups share, by name, and whatever else.

    Raises:
        ValueError: If the group says otherwise.
    """
    for key in OF_ALL_GROUPS & group.keys():
        if group[key] != common[key]:
            raise ValueError(
                f"{key} is one for all groups, a group may not have its own: give it to the "
                "constructor, or build an optimizer for these parameters alone"
            )
    return {key: value for key, value in group.items() if key not in OF_ALL_GROUPS}


def checked(group: Mapping[str, Any], engine: Engine) -> Factorization:
    """Return a new group's factorization after every check, of options, base and parameters.

    Args:
        group: Complete, with its parameters.
        engine: The base.

    Raises:
        TypeError: If an option has the wrong type, or a parameter cannot be trained so.
        ValueError: If an option has an impossible value, also one of the base's.
    """
    factorization = Factorization.from_group(group)
    engine.validate(dict(group))
    factorization.check_base(engine)
    for p in group["params"]:
        factorization.check(p)
    factorization.warn_if_unwise()
    return factorization


def factorized(groups: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Tensor, Factorization]]:
    """Go through the parameters that are split into factors, in order, each with its group's options."""
    for group in groups:
        factorization = Factorization.from_group(group)
        for p in group["params"]:
            if factorization.factorizes(p.ndim):
                yield p, factorization


def base_options(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a parameter group tells the base: ``lr``, ``momentum``, ..."""
    return {key: value for key, value in group.items() if key not in OWN_KEYS}


def _init(value: object, storage: str, structure: Structure) -> str:
    elementwise = is_elementwise(structure)
    mode = STORAGES[storage] if elementwise else Gated
    if value is None:
        return mode.default_init
    _one_of("init", value, tuple(INITS))
    if mode.one_init and value != mode.default_init:
        what = f"storage={storage!r}" if elementwise else f"structure={structure!r}"
        other = "storage='full'" if elementwise else "structure=None"
        raise ValueError(
            f"{what} {mode.one_init}: leave init out, or give init={mode.default_init!r}, not "
            f"{value!r}; or use {other}"
        )
    return str(value)


def _depth(value: object) -> int:
    depth = _count("depth", value)
    if not 1 <= depth <= MAX_DEPTH:
        raise ValueError(f"depth must be between 1 and {MAX_DEPTH}, got {depth}; 3 is the default")
    return depth


def _count(name: str, value: object) -> int:
    # bool is an Integral in Python, and depth=True is surely a mistake.
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer, got {value!r} ({type(value).__name__})")
    if value < 0:
        raise ValueError(f"{name} must be >= 0, got {value}")
    return int(value)


def _penalty(value: object) -> float:
    if value is None:
        raise TypeError(
            "penalty is missing: DWFOptimizer needs lambda, the strength of the sparsity penalty, for "
            "every group, e.g. penalty=3e-4 (0 trains the factors without regularization)"
        )
    penalty = _number("penalty", value)
    if not (math.isfinite(penalty) and penalty >= 0):
        raise ValueError(f"penalty must be finite and >= 0, got {penalty}")
    return penalty


def _lr_scale(value: object) -> float | Literal["auto"]:
    if value == "auto":
        return "auto"
    scale = _number("lr_scale", value)
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"lr_scale must be 'auto' or a finite number > 0, got {scale}")
    return scale


def _number(name: str, value: object) -> float:
    # Strings are numbers to float(), and bool is a Real: neither is meant.
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r} ({type(value).__name__})")
    return float(value)


def _one_of(name: str, value: object, known: tuple[object, ...]) -> None:
    if value not in known:
        raise ValueError(f"unknown {name} {value!r}; use one of {known}")
