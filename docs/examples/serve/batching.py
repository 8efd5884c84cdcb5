"""Requests that come at the same time share one call of the model."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class OverloadedError(Exception):
    """The queue is full: the client should come back later."""


class _Request(NamedTuple):
    rows: np.ndarray
    answer: asyncio.Future[np.ndarray]


class Batcher:
    """Collects what waits into batches, and answers each request with its own rows.

    It never waits for a batch to fill: while the model computes, or the event loop reads other requests,
    a queue forms by itself, and the next call takes all of it. A lone request is answered at once.
    """

    def __init__(
        self,
        predict: Callable[[np.ndarray], np.ndarray],
        *,
        max_batch: int = 64,
        max_waiting: int = 1024,
        in_thread: bool = False,
        on_batch: Callable[[int], None] = lambda samples: None,
    ) -> None:
        """Prepares an empty queue.

        Args:
            predict: From ``[batch, ...]`` to ``[batch, ...]``.
            max_batch: Samples a call has at most, unless one request alone has more.
            max_waiting: Requests that may wait.
            in_thread: Whether to compute beside the event loop. A hop to a thread costs more than a call
                of a small model; a large one would keep the loop from reading requests.
            on_batch: Is told the size of every batch.
        """
        self.predict, self.max_batch, self.in_thread, self.on_batch = (
            predict,
            max_batch,
            in_thread,
            on_batch,
        )
        self.waiting: asyncio.Queue[_Request] = asyncio.Queue(max_waiting)
        self._next: _Request | None = None
        self._worker: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Batcher:
        self._worker = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._worker is not None
        self._worker.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._worker
        left = [] if self._next is None else [self._next]
        while not self.waiting.empty():
            left.append(self.waiting.get_nowait())
        for request in left:
            request.answer.cancel()

    async def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Compute the outputs of one request.

        Args:
            rows: ``[samples, ...]``.

        Returns:
            ``[samples, ...]``.

        Raises:
            OverloadedError: If too many requests wait already.
        """
        answer: asyncio.Future[np.ndarray] = asyncio.get_running_loop().create_future()
        try:
            self.waiting.put_nowait(_Request(rows, answer))
        except asyncio.QueueFull:
            raise OverloadedError from None
        return await answer

    async def _work(self) -> None:
        while True:
            batch = [self._next or await self.waiting.get()]
            self._next = None
            await asyncio.sleep(0)  # whoever is ready to ask may do so now
            samples = len(batch[0].rows)
            while not self.waiting.empty():
                request = self.waiting.get_nowait()
                samples += len(request.rows)
                if samples > self.max_batch:
                    self._next = request
                    break
                batch.append(request)
            await self._answer([request for request in batch if not request.answer.done()])

    async def _answer(self, batch: list[_Request]) -> None:
        """Run the model; whoever hung up meanwhile is left out."""
        if not batch:
            return
        try:
            rows = batch[0].rows if len(batch) == 1 else np.concatenate([r.rows for r in batch])
            self.on_batch(len(rows))
            if self.in_thread:
                outputs = await asyncio.to_thread(self.predict, rows)
            else:
                outputs = self.predict(rows)
        except Exception as error:  # the worker must live on, and every client learn of it
            for request in batch:
                if not request.answer.done():
                    request.answer.set_exception(error)
            return
        start = 0
        for request in batch:
            end = start + len(request.rows)
            if not request.answer.done():
                request.answer.set_result(outputs[start:end])
            start = end
