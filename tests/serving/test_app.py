"""Requests, good and bad, over real HTTP."""

from __future__ import annotations

import copy
import io
import json
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from torch import nn

import inference
from tests.serving.conftest import CLASSES, EXAMPLE, FEATURES, load_predictor, rows, running

# Norm-wise, as everywhere in the engine: sums of at most 32 products in float32.
TOLERANCE = 1e-5


def truth(model: nn.Module, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return copy.deepcopy(model).double()(torch.from_numpy(x).double()).numpy()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def assert_close(got: np.ndarray, expected: np.ndarray) -> None:
    assert got.shape == expected.shape
    assert np.linalg.norm(got - expected) <= TOLERANCE * np.linalg.norm(expected)


@pytest.mark.parametrize("samples", [1, 8])
def test_json_in_json_out(client: httpx.Client, model: nn.Module, samples: int) -> None:
    x = rows(samples)
    answer = client.post("/predict", json={"inputs": x.tolist()})
    assert answer.status_code == 200
    assert_close(np.array(answer.json()["outputs"]), truth(model, x))


def test_npy_in_npy_out(client: httpx.Client, model: nn.Module) -> None:
    x = rows(3)
    answer = client.post("/predict", content=npy(x), headers={"content-type": "application/x-npy"})
    assert answer.status_code == 200
    assert_close(np.load(io.BytesIO(answer.content)), truth(model, x))


def test_concurrent_requests_each_get_their_own_answer(client: httpx.Client, model: nn.Module) -> None:
    batches = [rows(1 + seed % 5, seed) for seed in range(60)]
    with ThreadPoolExecutor(12) as pool:
        answers = list(
            pool.map(lambda x: client.post("/predict", json={"inputs": x.tolist()}).json(), batches)
        )
    for x, answer in zip(batches, answers, strict=True):
        assert_close(np.array(answer["outputs"]), truth(model, x))


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"not json", 422, "cannot be read"),
        (b"[1, 2]", 422, "inputs"),
        (b'{"x": 1}', 422, "inputs"),
        (b'{"inputs": [[1, 2], [3]]}', 422, "cannot be read"),
        (b'{"inputs": [["a"]]}', 422, "cannot be read"),
        (b'{"inputs": []}', 422, "shape"),
        (json.dumps({"inputs": [[0.0] * (FEATURES + 1)]}).encode(), 422, f"1 to 8, {FEATURES}"),
        (json.dumps({"inputs": [[0.0] * FEATURES] * 9}).encode(), 422, "1 to 8"),
        (json.dumps({"inputs": [[float("nan")] * FEATURES]}).encode(), 422, "NaN"),
        (json.dumps({"inputs": [[1e300] * FEATURES]}).encode(), 422, "beyond float32"),
        (b"[" * 9_000, 422, "cannot be read"),
        (b"x" * 10_001, 413, "10000 bytes"),
    ],
)
def test_bad_json_is_refused_with_the_reason(
    client: httpx.Client, body: bytes, status: int, says: str
) -> None:
    answer = client.post("/predict", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert says in answer.json()["detail"]
    assert client.get("/readyz").status_code == 200


def claiming_a_terabyte() -> bytes:
    """A header whose shape is the model's but for the number of samples, and no data."""
    return npy(rows(1)).replace(b"(1, ", b"(9999999999, ").replace(b" " * 10 + b"\n", b"\n")


@pytest.mark.parametrize(
    "body",
    [
        npy(rows(1).astype(np.float64)),
        npy(np.asfortranarray(rows(4))),
        npy(rows(1))[:-1],
        npy(rows(1))[:20],
        npy(rows(9)),
        b"",
        claiming_a_terabyte(),
    ],
    ids=["float64", "fortran", "cut", "cut header", "too many", "empty", "terabyte"],
)
def test_bad_arrays_are_refused(client: httpx.Client, body: bytes) -> None:
    answer = client.post("/predict", content=body, headers={"content-type": "application/x-npy"})
    assert answer.status_code == 422
    assert answer.json()["detail"]


def test_pickled_arrays_are_refused(client: httpx.Client) -> None:
    file = io.BytesIO()
    np.save(file, np.array([object()]), allow_pickle=True)
    answer = client.post(
        "/predict", content=file.getvalue(), headers={"content-type": "application/x-npy"}
    )
    assert answer.status_code == 422


def test_other_kinds_are_refused(client: httpx.Client) -> None:
    assert client.post("/predict", content=b"x", headers={"content-type": "text/csv"}).status_code == 415


def test_health_and_metrics(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "alive"}
    ready = client.get("/readyz").json()
    assert ready["shape"] == [FEATURES]
    client.post("/predict", json={"inputs": rows(2).tolist()})
    client.post("/predict", content=b"bad")
    text = client.get("/metrics").text
    assert 'requests_total{model="model.dwf",status="200"} 1.0' in text
    assert 'requests_total{model="model.dwf",status="422"} 1.0' in text
    assert 'batch_samples_sum{model="model.dwf"} 3.0' in text  # one of them asked by /readyz


@pytest.mark.parametrize("suffix", [".dwf", ".onnx"])
def test_models_of_integers_are_refused_when_they_are_loaded(suffix: str, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 2)).eval()
    ids, path = torch.zeros(1, 3, dtype=torch.int64), tmp_path / f"model{suffix}"
    if suffix == ".onnx":
        inference.export_onnx(model, ids, path)
    else:
        inference.compile(model, ids, plan="static").save(path)
    with pytest.raises(ValueError, match="float32"):
        load_predictor(path)


def test_it_runs_as_a_script(artifact: Path, model: nn.Module) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, EXAMPLE / "app.py", artifact, "--port", str(port)]
    environment = {"PYTHONPATH": str(EXAMPLE.parents[2]), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
        try:
            with httpx.Client(base_url=url, trust_env=False) as client:
                for _ in range(600):
                    try:
                        client.get("/healthz")
                        break
                    except httpx.TransportError:
                        assert process.poll() is None, process.stderr.read()
                        time.sleep(0.1)
                x = rows(2)
                answer = client.post("/predict", json={"inputs": x.tolist()})
                assert_close(np.array(answer.json()["outputs"]), truth(model, x))
                load = subprocess.run(
                    [
                        sys.executable,
                        EXAMPLE / "load_test.py",
                        url,
                        "--clients",
                        "4",
                        "--seconds",
                        "0.5",
                    ],
                    capture_output=True,
                    text=True,
                    check=True,
                )
            assert "answers a second" in load.stdout
            assert " 0 of " in load.stdout
        finally:
            process.terminate()
            process.wait(30)


def test_a_full_queue_turns_requests_away(predictor: object) -> None:
    """The model sleeps, so that requests pile up: one is computed, one is next, one waits."""
    slow = type(predictor)(predictor.name, predictor.shape, lambda x: (time.sleep(0.5), x)[1])
    with running(slow, max_samples=1, max_waiting=1) as client, ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda _: client.post("/predict", json={"inputs": rows(1).tolist()}), range(8))
        )
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 503}
    assert all(a.headers["retry-after"] == "1" for a in answers if a.status_code == 503)


def test_a_failing_model_fails_its_requests_only(predictor: object) -> None:
    def fails_on_ones(x: np.ndarray) -> np.ndarray:
        if (x == 1).all():
            raise RuntimeError("no ones")
        return x[:, :CLASSES]

    with running(type(predictor)("fails", predictor.shape, fails_on_ones)) as client:
        bad = client.post("/predict", json={"inputs": [[1.0] * FEATURES]})
        good = client.post("/predict", json={"inputs": [[2.0] * FEATURES]})
        text = client.get("/metrics").text
    assert (bad.status_code, good.status_code) == (500, 200)
    assert bad.json() == {"detail": "the model failed"}
    assert 'requests_total{model="fails",status="500"} 1.0' in text
