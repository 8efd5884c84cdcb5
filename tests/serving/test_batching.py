"""The batcher alone: what shares a call, and what happens to those who leave."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from tests.serving import conftest  # noqa: F401  # puts the example on the path

from batching import Batcher, OverloadedError  # isort: skip


def sample(value: float, samples: int = 1) -> np.ndarray:
    return np.full((samples, 2), value, np.float32)


def test_requests_of_one_moment_share_a_call() -> None:
    sizes: list[int] = []

    async def main() -> list[np.ndarray]:
        async with Batcher(lambda x: 2 * x, max_batch=8, on_batch=sizes.append) as batcher:
            return await asyncio.gather(*(batcher(sample(i)) for i in range(20)))

    answers = asyncio.run(main())
    assert sizes == [8, 8, 4]
    for i, answer in enumerate(answers):
        np.testing.assert_array_equal(answer, sample(2 * i))


def test_a_batch_is_not_overfilled_and_a_large_request_goes_alone() -> None:
    sizes: list[int] = []

    async def main() -> None:
        async with Batcher(lambda x: x, max_batch=4, on_batch=sizes.append) as batcher:
            await asyncio.gather(*(batcher(sample(0, n)) for n in (3, 2, 9, 1)))

    asyncio.run(main())
    assert sizes == [3, 2, 9, 1]


@pytest.mark.parametrize("in_thread", [False, True])
def test_an_error_reaches_all_of_its_batch_and_the_next_batch_works(in_thread: bool) -> None:
    def predict(x: np.ndarray) -> np.ndarray:
        if x[0, 0] < 0:
            raise ArithmeticError("negative")
        return x

    async def main() -> None:
        async with Batcher(predict, in_thread=in_thread) as batcher:
            answers = await asyncio.gather(
                batcher(sample(-1)), batcher(sample(5)), return_exceptions=True
            )
            assert [type(answer) for answer in answers] == [ArithmeticError, ArithmeticError]
            np.testing.assert_array_equal(await batcher(sample(5)), sample(5))

    asyncio.run(main())


def test_who_hangs_up_is_not_computed() -> None:
    sizes: list[int] = []

    async def main() -> None:
        async with Batcher(lambda x: x, on_batch=sizes.append) as batcher:
            leaving = asyncio.create_task(batcher(sample(1)))
            staying = asyncio.create_task(batcher(sample(2)))
            await asyncio.sleep(0)
            leaving.cancel()
            np.testing.assert_array_equal(await staying, sample(2))

    asyncio.run(main())
    assert sizes == [1]


def test_a_full_queue_raises_at_once() -> None:
    async def main() -> None:
        batcher = Batcher(lambda x: x, max_waiting=1)  # nobody works it off
        waiting = asyncio.create_task(batcher(sample(0)))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError):
            await batcher(sample(1))
        waiting.cancel()

    asyncio.run(main())


def test_closing_cancels_who_waits() -> None:
    async def main() -> None:
        batcher = Batcher(lambda x: x)
        waiting = asyncio.create_task(batcher(sample(0)))
        await asyncio.sleep(0)
        async with batcher:
            pass
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(main())
