"""What does an HTTP server gain from a sparse model?

Run as ``python -m benchmarks.serving --data DIR``; what is in ``results/serving.jsonl`` is skipped. The
app of ``docs/examples/serve`` serves LeNet-300-100, trained by DWF, in the sparse engine, and the same
network dense in onnxruntime. Both servers run all the time; load goes to one after the other, in rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import torch
from tqdm import tqdm

import inference
from benchmarks.data import add_data_argument
from benchmarks.dense_runtimes import onnx_bytes
from benchmarks.records import CONFIG, RESULT, RESULTS, Records, table, write_text
from benchmarks.trained import FEATURES, trained

ROOT = Path(__file__).parents[1]
SERVER = ROOT / "docs" / "examples" / "serve"
ENGINE, DENSE = "engine", "onnxruntime, dense"
ROUNDS = 5
# Engine over dense onnxruntime: throughput at least, p99 at most. From the project's goals.
LEAST_THROUGHPUT, MOST_P99 = 1 / 1.1, 1.1


def configurations() -> list[dict[str, Any]]:
    """List all."""
    return [
        {"format": kind, "clients": clients, "rounds": ROUNDS}
        for kind, clients in itertools.product(("json", "npy"), (1, 16))
    ]


def measure(config: dict[str, Any], urls: dict[str, str], seconds: float) -> dict[str, Any]:
    """Load both servers in turns.

    Args:
        config: One of `configurations`.
        urls: Of both.
        seconds: Of load at a time.

    Returns:
        For each server the answers a second, and milliseconds, of every round.
    """
    sys.path.insert(0, str(SERVER))
    from load_test import load  # type: ignore[import-not-found]  # a script of the example

    seen: dict[str, dict[str, list[float]]] = {
        name: {"throughput": [], "p50": [], "p99": []} for name in urls
    }
    for number in range(config["rounds"]):
        # Who goes first takes turns too.
        for name in sorted(urls, reverse=number % 2 == 1):
            result = asyncio.run(
                load(
                    urls[name],
                    (FEATURES,),
                    clients=config["clients"],
                    seconds=seconds,
                    npy=config["format"] == "npy",
                )
            )
            if result.failures:
                raise RuntimeError(f"{result.failures} of {result.answers} requests failed at {config}")
            for key, values in seen[name].items():
                values.append(getattr(result, key))
    return seen


@contextlib.contextmanager
def serving(path: Path) -> Iterator[str]:
    """Run the app in a process of its own, on one core; the clients have the other.

    Args:
        path: The model's file.

    Returns:
        Its address.
    """
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(SERVER / "app.py"), str(path), "--port", str(port)]
    with subprocess.Popen(command, env=environment) as process:
        try:
            if hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(process.pid, {0})
            deadline = time.monotonic() + 60
            while True:
                try:
                    httpx.get(f"{url}/readyz", trust_env=False).raise_for_status()
                    break
                except httpx.TransportError:
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise
                    time.sleep(0.1)
            yield url
        finally:
            process.terminate()


def report(records: Records) -> str:
    """Write the page."""
    rows = []
    for row in records.rows:
        config, result = row[CONFIG], row[RESULT]
        middle = {
            name: {key: statistics.median(values) for key, values in seen.items()}
            for name, seen in result.items()
        }
        engine, dense = middle[ENGINE], middle[DENSE]
        throughput = engine["throughput"] / dense["throughput"]
        p99 = engine["p99"] / dense["p99"]
        met = throughput >= LEAST_THROUGHPUT and p99 <= MOST_P99
        rows.append(
            [
                config["format"],
                str(config["clients"]),
                *(f"{middle[name]['throughput']:.0f}" for name in (ENGINE, DENSE)),
                f"{throughput:.2f}",
                *(f"{middle[name]['p50']:.2f}" for name in (ENGINE, DENSE)),
                *(f"{middle[name]['p99']:.2f}" for name in (ENGINE, DENSE)),
                f"{p99:.2f}",
                "met" if met else "**missed**",
            ]
        )
    header = [
        *("body", "clients", "engine, answers/s", "dense, answers/s", "ratio"),
        *("engine, p50 ms", "dense, p50 ms", "engine, p99 ms", "dense, p99 ms", "ratio of p99"),
        f"at least {LEAST_THROUGHPUT:.2f}, p99 at most {MOST_P99:g}",
    ]
    return "\n".join(
        [
            "# Serving over HTTP\n",
            "Made by `python -m benchmarks.serving --data DIR` from `serving.jsonl`. "
            + records.provenance(),
            f"""
The app of `docs/examples/serve`, uvicorn with one worker, on the loopback; servers on one core, clients
on the other. LeNet-300-100 on MNIST, trained by DWF (`benchmarks.trained`); one image a request; medians
of {ROUNDS} runs, the servers in turns. The model takes microseconds, a request milliseconds: what is
seen is HTTP, reading and writing numbers as text, and whatever else the machine does. A model this
small should be served with many images a request, or in process.
""",
            table(header, rows),
            "",
        ]
    )


def main() -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_argument(parser)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of results")
    parser.add_argument("--seconds", type=float, default=3.0, help="of load at a time")
    options = parser.parse_args()
    torch.set_num_threads(1)
    records = Records(options.out / "serving.jsonl")
    missing = [config for config in configurations() if not records.has(config)]
    if missing:
        model = trained("lenet_300_100", options.data)
        example = torch.zeros(1, FEATURES)
        with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as servers:
            folder = Path(name)
            inference.compile(model, example).save(folder / "model.dwf")
            (folder / "dense.onnx").write_bytes(onnx_bytes(model, example.numpy()))
            urls = {
                ENGINE: servers.enter_context(serving(folder / "model.dwf")),
                DENSE: servers.enter_context(serving(folder / "dense.onnx")),
            }
            if hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1:
                os.sched_setaffinity(0, os.sched_getaffinity(0) - {0})
            for config in tqdm(missing, unit="config"):
                records.add(config, measure(config, urls, options.seconds))
    write_text(options.out / "serving.md", report(records))


if __name__ == "__main__":
    main()
