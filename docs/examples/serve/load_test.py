"""Ask a running server as fast as it answers, from several clients at once, for a few seconds.

Run as ``python load_test.py http://127.0.0.1:8000 --clients 16 --seconds 5``.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import statistics
import time
from dataclasses import dataclass

import httpx
import numpy as np

MOST_SECONDS = 60.0


@dataclass(frozen=True)
class Load:
    """What the clients saw.

    Attributes:
        answers: How many came.
        failures: How many were not 200.
        seconds: How long they were asked for.
        p50: Median milliseconds from request to answer.
        p99: Those that one in a hundred exceeds.
    """

    answers: int
    failures: int
    seconds: float
    p50: float
    p99: float

    @property
    def throughput(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds


async def load(url: str, shape: tuple[int, ...], *, clients: int, seconds: float, npy: bool) -> Load:
    """Keep a number of clients busy, each sending its next request when the last is answered.

    Args:
        url: Of the server.
        shape: Of one sample.
        clients: How many.
        seconds: For how long, at most a minute.
        npy: Whether to send NumPy's format rather than JSON.
    """
    rows = np.random.default_rng(0).random((1, *shape), np.float32)
    if npy:
        file = io.BytesIO()
        np.save(file, rows)
        body, kind = file.getvalue(), "application/x-npy"
    else:
        body, kind = json.dumps({"inputs": rows.tolist()}).encode(), "application/json"
    times: list[float] = []
    failures = 0
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=10, trust_env=False) as client:
        end = time.perf_counter() + min(seconds, MOST_SECONDS)

        async def ask() -> None:
            nonlocal failures
            while (start := time.perf_counter()) < end:
                answer = await client.post("/predict", content=body, headers={"content-type": kind})
                times.append(time.perf_counter() - start)
                failures += answer.status_code != 200

        start = time.perf_counter()
        await asyncio.gather(*(ask() for _ in range(clients)))
        passed = time.perf_counter() - start
    cuts = statistics.quantiles(times, n=100)
    return Load(len(times), failures, passed, 1e3 * cuts[49], 1e3 * cuts[98])


async def shape_of(url: str) -> tuple[int, ...]:
    """Ask a server for the shape of a sample."""
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        answer = await client.get("/readyz")
        answer.raise_for_status()
        return tuple(answer.json()["shape"])


def main() -> None:
    """Test the server that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--npy", action="store_true", help="send NumPy's format, not JSON")
    options = parser.parse_args()
    found = asyncio.run(shape_of(options.url))
    seen = asyncio.run(
        load(options.url, found, clients=options.clients, seconds=options.seconds, npy=options.npy)
    )
    print(
        f"{seen.throughput:.0f} answers a second, p50 {seen.p50:.2f} ms, p99 {seen.p99:.2f} ms, "
        f"{seen.failures} of {seen.answers} failed"
    )


if __name__ == "__main__":
    main()
