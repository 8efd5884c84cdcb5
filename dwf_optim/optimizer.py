"""`DWFOptimizer`: groups, state, step, checkpoint. The maths is in `dwf_optim.factors`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

# torch.compiler.disable would do the same and import all of dynamo, which takes seconds.
from torch._compile import _disable_dynamo
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from dwf_optim.base import Engine, constructor_options
from dwf_optim.checkpoint import is_plain, unpack
from dwf_optim.factorization import (
    OWN_KEYS,
    RUN_KEYS,
    Factorization,
    checked,
    factorized,
    without_common,
)
from dwf_optim.init import INITS
from dwf_optim.learning_rate import FLOAT32_EPS, BaseKind, DecayBudget, budgets_of_run
from dwf_optim.loading import check_plain, complete, converted, plain_options, upgrade
from dwf_optim.members import Group, find, members_by_group, positions
from dwf_optim.notify import warn
from dwf_optim.state import State
from dwf_optim.step import resolve_backend
from dwf_optim.step.group import plan_group, step_group
from dwf_optim.storage.switch import switch
from dwf_optim.store import FactorStore

if TYPE_CHECKING:
    from dwf_optim.budget import RunBudget


class DWFOptimizer(Optimizer):
    r"""Train a dense model towards exact zeros by stepping hidden factors of its weights.

    Every weight is ``w = f_1 * ... * f_D``. A step turns the weight's gradient into the factors',
    lets any elementwise base optimizer step them, and writes the product back:

    .. math::

        g_d = g \prod_{e \ne d} f_e + \tfrac{2 \lambda}{D} f_d, \qquad
        f_d \leftarrow \text{base}(f_d, g_d), \qquad w \leftarrow \prod_d f_d

    Plain L2 on the factors is, at every minimum, the non-convex penalty
    :math:`\lambda \|w\|_{2/D}^{2/D}` on the weights (D = 2: L1). The model's modules, forward and
    backward stay as they are. Afterwards `dwf_optim.sparsify` makes nearly zero exactly zero.

    Args:
        params: Tensors, named tensors or groups, as in torch. Every option below except ``base``,
            ``backend`` and ``seed`` may stand in a group.
        lr: Learning rate, with the meaning it has for the dense base; None takes the base's default.
        penalty: ``lambda``, finite and >= 0. Required, here or in every group. At depth 1 the base
            sees ``2 lambda w`` added to the gradient.
        base: Class of the base optimizer.
        depth: ``D``, 1 to 8. 1 is the base itself, bit for bit at penalty 0.
        init: How the factors start: "preserve" (default), "balanced" (default where there is one root a
            weight), "dwf" or "varmatch"; the last two re-draw the weights at construction.
        storage: "full": every factor is kept in the state, in float32 or wider. "tied": one root a
            weight, which does what init="balanced" does, with a D-th of the state. "ephemeral": no root
            either, float32 weights and SGD, Adam, AdamW only.
        structure: None ("elementwise"): every weight has factors of its own. "filter" (convolutions),
            "neuron", "input", ("head", number), ("qkv_head", number), or a tuple of the dimensions that
            tell groups apart: weights of a group share ``D - 1`` gates and become zero together
            (``dwf_optim.gates``); storage "full", init "preserve".
        weigh_by_size: Whether a group's penalty is multiplied by the root of its number of weights.
        lr_scale: Factor-space rate over ``lr``: "auto" (by depth and base), or a number; 1.0 is the
            paper's raw rate.
        min_ndim: Tensors with fewer dimensions (biases, norms) are stepped by the base as they are.
        backend: How steps are computed. "auto" takes the compiled extension ("native": SGD, Adam and
            AdamW on the CPU, weights in float32 or less) where it can, and "blocked" elsewhere.
            "native" refuses what the extension cannot step, "blocked" is for any base, "compiled" puts
            SGD, Adam and AdamW through torch.compile, on CPU or CUDA, "reference" is the readable one.
            ``foreach`` and ``fused`` say how "blocked" and "reference" run the base.
        flush: "dead" makes weights that underflow has killed exactly zero; None leaves them.
        seed: Of the random factor draws, which do not touch torch's own random stream.
        **base_options: Passed to ``base``. A weight_decay acts on tensors without factors only.

    Raises:
        TypeError: For an option of the wrong type, a base instance, integer or complex parameters.
        ValueError: For an option out of range, or a base that cannot work on factors.

    At a learning rate of 0 neither factors nor weights are written; the base's state advances as
    the base's own does.

    Source: Kolb, Weber, Bischl, Rügamer, "Deep Weight Factorization", ICLR 2025, arXiv 2502.02496.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor | None = None,
        *,
        penalty: float | None = None,
        base: type[Optimizer] = torch.optim.SGD,
        depth: int = 3,
        init: str | None = None,
        storage: str = "full",
        structure: str | tuple[str | int, ...] | None = None,
        weigh_by_size: bool = False,
        lr_scale: float | str = "auto",
        min_ndim: int = 2,
        backend: str = "auto",
        flush: str | None = "dead",
        seed: int = 0,
        **base_options: Any,
    ) -> None:
        if lr is not None:
            base_options["lr"] = lr
        self.base = base
        self.backend = backend
        self.seed = seed
        resolve_backend(backend)
        self._engine = Engine(base, base_options)
        self._asked_for_weight_decay = bool(base_options.get("weight_decay"))
        self._warned_of_weight_decay = False
        self._store = FactorStore(seed)
        own = {
            "depth": depth,
            "penalty": penalty,
            "init": init,
            "storage": storage,
            "structure": structure,
            "weigh_by_size": weigh_by_size,
            "lr_scale": lr_scale,
            "min_ndim": min_ndim,
            "flush": flush,
        }
        run = {**RUN_KEYS, "base_name": base.__name__}
        super().__init__(params, {**self._engine.defaults, **own, **run})

    @classmethod
    def wrap(cls, optimizer: Optimizer, *, penalty: float, **options: Any) -> DWFOptimizer:
        """Build a `DWFOptimizer` from a built optimizer, with its class, groups and options.

        Args:
            optimizer: Any elementwise optimizer. If it has stepped, its state is converted
                (`dwf_optim.convert`), and the run goes on in factor space.
            penalty: ``lambda``.
            **options: Other options of `DWFOptimizer` (``depth``, ``init``, ...), not of its base.

        Returns:
            A new optimizer over the same parameters. Drop the old one, and give LR schedulers the
            new one.

        Raises:
            TypeError: If ``optimizer`` is not a plain optimizer, or an option is one that it has.
            ValueError: If it has stepped and its state cannot be converted.
        """
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"wrap takes a built torch optimizer, got {optimizer!r}; for a class, use "
                "DWFOptimizer(params, base=...)"
            )
        if isinstance(optimizer, DWFOptimizer):
            raise TypeError("wrap takes a plain optimizer, and this is a DWFOptimizer: use it as it is")
        if given := sorted(options.keys() & {"base", *optimizer.defaults}):
            raise TypeError(
                f"wrap takes {', '.join(given)} from the optimizer that it is given: set that in its "
                "param_groups instead, or build DWFOptimizer(params, ...) anew"
            )
        groups, defaults = plain_options(optimizer)
        wrapped = cls(groups, base=type(optimizer), penalty=penalty, **{**defaults, **options})
        wrapped.state.update(wrapped._converted(optimizer.state))
        return wrapped

    # ------------------------------------------------------------------ groups

    @_disable_dynamo
    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group, as in torch; every factorization option may stand in it.

        Args:
            param_group: ``{"params": ..., option: value, ...}``.

        Raises:
            TypeError: As the constructor.
            ValueError: As the constructor. The optimizer is then left as it was.
        """
        asked = isinstance(param_group, dict) and bool(param_group.get("weight_decay"))
        if isinstance(param_group, dict):
            param_group = without_common(param_group, vars(self))
        super().add_param_group(param_group)
        *_, (group, members) = members_by_group(self.param_groups)
        try:
            factorization = checked(group, self._engine)
            split = [member for member in members if factorization.factorizes(member.p.ndim)]
            if split and (asked or self._asked_for_weight_decay):
                self._warn_of_weight_decay(group)
            if INITS[factorization.init].redraws:
                with torch.no_grad():
                    self._store.redraw(split, factorization)
        except Exception:
            self.param_groups.pop()
            raise

    def _warn_of_weight_decay(self, group: dict[str, Any]) -> None:
        if group.get("weight_decay") and not self._warned_of_weight_decay:
            self._warned_of_weight_decay = True
            warn(
                f"weight_decay={group['weight_decay']} acts on tensors without factors only: on factors "
                "L2 is the penalty itself (weight_decay wd on them would be penalty D wd / 2)"
            )

    def _positions(self) -> Iterator[tuple[Group, int]]:
        return positions(self.param_groups)

    def factorized(self) -> Iterator[Tensor]:
        """Go through the parameters that are split into factors, in order."""
        yield from (p for p, _ in factorized(self.param_groups))

    @torch.no_grad()
    def factors(self, parameter: Tensor) -> list[Tensor]:
        """Return the factors of one parameter; made now if no step has made them yet.

        Args:
            parameter: One of the optimizer's parameters.

        Returns:
            The ``D`` factors in product order; empty for a parameter that is not factorized. With
            storage "full" the factors themselves, else new tensors, computed from the root. Where
            weights share gates: the full factor, then ``D - 1`` gates of their own shape.

        Raises:
            ValueError: If the optimizer does not hold the parameter.
        """
        group, member = find(self.param_groups, parameter)
        factorization = Factorization.from_group(group)
        if not factorization.factorizes(parameter.ndim):
            return []
        state = self._store.state_of(self.state, member, factorization)
        return factorization.factors(parameter, state)

    @torch.no_grad()
    def zero_(self, parameter: Tensor, mask: Tensor) -> None:
        """Set masked weights to zero for good: weight, factors and the base's state.

        A zero whose factors are all zero has zero gradient and no momentum left, so it stays zero.
        Parameters that are not factorized are zeroed too, but their next gradient revives them.

        Args:
            parameter: One of the optimizer's parameters.
            mask: Boolean, of its shape; True where it becomes zero. For a sharded parameter the whole
                mask, the same on every rank, or a sharded one.

        Raises:
            ValueError: If the optimizer does not hold the parameter, the shapes differ, or weights share
                gates (``structure``) and the mask would leave a part of a group.
        """
        if mask.shape != parameter.shape:
            raise ValueError(
                f"mask has shape {tuple(mask.shape)}, the parameter {tuple(parameter.shape)}"
            )
        group, member = find(self.param_groups, parameter)
        self._store.zero_(self.state, member, Factorization.from_group(group), mask)

    @property
    def kind(self) -> BaseKind:
        """How the base's step depends on the gradient: "sgd" if proportional to it, else "adam"."""
        return self._engine.kind

    def decay_budgets(self, threshold: float) -> list[DecayBudget]:
        """Say, for each group that has stepped, how far its penalty could have shrunk weights.

        Args:
            threshold: ``|weight|`` that counts as zero.

        Returns:
            One budget a group; none for Adam-type bases, which follow no such law, nor for thresholds at
            which ordinary weights count as zero anyway.
        """
        return budgets_of_run(self.param_groups, self._engine.kind, threshold)

    def budget(
        self, scheduler: Any, steps: int, *, every: int = 1, threshold: float = FLOAT32_EPS
    ) -> RunBudget:
        """Say whether the steps to come can take weights to zero, by when, and which penalty would.

        The schedule is played through on copies; neither optimizer nor schedulers change.

        Args:
            scheduler: What will set learning rate and penalty: one scheduler, several, or None for both
                as they are. Torch's and ours, `TargetSparsity` too.
            steps: How many more the run takes; those already taken count as well.
            every: Steps between two ``step()`` of a learning-rate scheduler: ``len(loader)``, if it goes
                by epochs.
            threshold: ``|weight|`` that counts as zero; 1e-3 with `TargetSparsity`.

        Returns:
            The budget of each group that has factors; of none for Adam-type bases, which follow no
            such law.

        Raises:
            TypeError: If a scheduler is none.
            ValueError: If a number is out of range, or a scheduler belongs to another optimizer or goes
                by what is measured (ReduceLROnPlateau).
        """
        from dwf_optim.budget import forecast  # which knows the schedulers, and they the optimizer

        return forecast(self, scheduler, steps, every=every, threshold=threshold)

    # -------------------------------------------------------------------- step

    @_disable_dynamo
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step.

        Args:
            closure: Optional; re-evaluates the model, calls backward and returns the loss.

        Returns:
            What the closure returned, or None.

        Raises:
            TypeError: If a factorized parameter has a sparse gradient.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        plans = [
            plan_group(self._engine, self.backend, self.state, group, first)
            for group, first in self._positions()
        ]
        backend = resolve_backend(self.backend)
        for plan in plans:
            step_group(self._engine, backend, self._store, self.state, plan)
        return loss

    # -------------------------------------------------------------- checkpoint

    @_disable_dynamo
    def state_dict(self) -> dict[str, Any]:
        """Return the checkpoint: groups and state, by parameter number, as torch does."""
        waiting = self._store.waiting(self.state)
        # Only for the time of saving: who finds state takes the optimizer for one that has stepped.
        self.state.update(waiting)
        try:
            return super().state_dict()
        finally:
            for p in waiting:
                del self.state[p]

    @_disable_dynamo
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a checkpoint, every tensor in the dtype it was saved in.

        The plain base's checkpoint is converted (`dwf_optim.convert`): load the model's weights first,
        and the run goes on in factor space. A checkpoint of another ``storage`` is brought to this
        optimizer's where that is exact ("tied" or "ephemeral" to any other): weights first there too.

        Args:
            state_dict: From ``state_dict()`` of a `DWFOptimizer`, or of its base, over the same
                parameters; copied.

        Raises:
            ValueError: If it is another optimizer's checkpoint, its groups have other sizes, or its
                storage is another and bringing it to this one would not be exact.
        """
        state_dict = state_dict.copy()
        for pre_hook in self._optimizer_load_state_dict_pre_hooks.values():
            replaced = pre_hook(self, state_dict)
            if replaced is not None:
                state_dict = replaced
        state, groups = unpack(self.param_groups, state_dict)
        if is_plain(groups):
            check_plain(self._engine, groups)
            # All of it is converted before any of it is taken.
            state = self._converted(state)
            for group, saved in zip(self.param_groups, groups, strict=True):
                group.update({**RUN_KEYS, "base_name": self.base.__name__, **saved})
            self.state = defaultdict(dict, state)
        else:
            switch(self.param_groups, groups, state, self.base)
            self._store.take_waiting(state)
            self.__setstate__({"state": state, "param_groups": groups})
        upgrade(self._engine, self.state, self.param_groups)
        for post_hook in self._optimizer_load_state_dict_post_hooks.values():
            post_hook(self)

    def _converted(self, plain: Mapping[Tensor, State]) -> dict[Tensor, State]:
        return converted(self._engine, self._store, self.param_groups, plain)

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickle and deepcopy carry: options, groups and state, not the engine."""
        kept = ("base", "backend", "seed", "_store")
        private = ("_asked_for_weight_decay", "_warned_of_weight_decay")
        return {
            **super().__getstate__(),
            **{name: getattr(self, name) for name in (*kept, *private)},
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore from pickle, deepcopy or load_state_dict."""
        super().__setstate__(state)
        self._store.forget_writes()
        if not hasattr(self, "_engine"):
            options = {key: value for key, value in self.defaults.items() if key not in OWN_KEYS}
            self._engine = Engine(self.base, constructor_options(self.base, options))
        complete(self.param_groups, self.defaults, self._engine)

    def __repr__(self) -> str:
        """Name the base, then list the groups as torch does."""
        name = type(self).__name__
        return super().__repr__().replace(f"{name} (", f"{name}[{self.base.__name__}] (", 1)
