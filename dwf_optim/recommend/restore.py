"""Everything that a range test touches, to be put back to the bit."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class Snapshot:
    """A model, its gradients and modes, and all random streams, as they now are.

    Values go back into the tensors that held them, so what refers to these (an optimizer, an average, a
    flattened view) goes on as if nothing had happened.

    Args:
        model: Parameters, buffers and modes are kept.
        tensors: Further ones that are trained.
        loader: Its own generators, and those of its samplers, are kept.
    """

    def __init__(self, model: nn.Module, tensors: Iterable[Tensor] = (), loader: Any = None) -> None:
        self._modes = [(module, module.training) for module in model.modules()]
        self._buffers = [(m, name, b) for m in model.modules() for name, b in m._buffers.items()]
        trained = {id(p): p for p in [*model.parameters(), *tensors]}
        self._gradients = [(p, p.grad) for p in trained.values()]
        held = {**trained, **{id(b): b for *_, b in self._buffers if b is not None}}
        self._values = [(tensor, tensor.detach().clone()) for tensor in held.values()]
        self._streams = [*_streams({tensor.device for tensor in held.values()}), *_generators(loader)]

    @torch.no_grad()
    def restore(self) -> None:
        """Put all of it back; can be called again and again."""
        for module, mode in self._modes:
            module.training = mode
        for module, name, buffer in self._buffers:
            module._buffers[name] = buffer
        for tensor, value in self._values:
            tensor.copy_(value)
        for parameter, gradient in self._gradients:
            parameter.grad = gradient
        for set_state, state in self._streams:
            set_state(state)


@contextlib.contextmanager
def restored(model: nn.Module, tensors: Iterable[Tensor] = (), loader: Any = None) -> Iterator[Snapshot]:
    """Leave everything as it was, whatever happens inside.

    Args:
        model: As of `Snapshot`, and so the others.
        tensors: Further ones.
        loader: Of the batches.

    Yields:
        The snapshot, to go back to in between.
    """
    snapshot = Snapshot(model, tensors, loader)
    try:
        yield snapshot
    finally:
        snapshot.restore()


Stream = tuple[Callable[[Any], object], Any]


def _streams(devices: Iterable[torch.device]) -> list[Stream]:
    """Return the global random streams: Python's, NumPy's, torch's, and those of the devices."""
    streams: list[Stream] = [
        (random.setstate, random.getstate()),
        (np.random.set_state, np.random.get_state()),  # noqa: NPY002 - users' augmentations draw there
        (torch.set_rng_state, torch.get_rng_state()),
    ]
    for kind in {device.type for device in devices} - {"cpu", "meta"}:
        module = torch.get_device_module(kind)
        if hasattr(module, "get_rng_state_all"):
            streams.append((module.set_rng_state_all, module.get_rng_state_all()))
        else:
            streams.append((module.set_rng_state, module.get_rng_state()))
    return streams


def _generators(loader: Any) -> list[Stream]:
    """Return the streams of a loader's own generators."""
    batches = getattr(loader, "batch_sampler", None)
    holders = (loader, getattr(loader, "sampler", None), batches, getattr(batches, "sampler", None))
    found = (getattr(holder, "generator", None) for holder in holders)
    own = {id(g): g for g in found if isinstance(g, torch.Generator)}
    return [(generator.set_state, generator.get_state()) for generator in own.values()]
