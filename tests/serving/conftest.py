"""The example server, really running on the loopback."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
import uvicorn
from torch import nn

import inference
from tests.helpers import seeded

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "serve"
sys.path.insert(0, str(EXAMPLE))  # its files import each other, as scripts in one folder do

import app as serve  # noqa: E402
from predictors import Predictor, load_predictor  # noqa: E402

FEATURES, CLASSES = 20, 3
Serve = Callable[..., contextlib.AbstractContextManager[httpx.Client]]


@pytest.fixture(scope="session")
def model() -> nn.Sequential:
    """Four fifths of its weights are zero."""
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(FEATURES, 32), nn.ReLU(), nn.Linear(32, CLASSES))
    generator = seeded(1)
    with torch.no_grad():
        for p in made.parameters():
            p.mul_(torch.rand(p.shape, generator=generator) < 0.2)
    return made


@pytest.fixture(scope="session")
def artifact(model: nn.Sequential, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("serve") / "model.dwf"
    inference.compile(model, torch.zeros(1, FEATURES), plan="static").save(path)
    return path


@pytest.fixture
def predictor(artifact: Path) -> Predictor:
    return load_predictor(artifact)


@contextlib.contextmanager
def running(predictor: Predictor, **options: int) -> Iterator[httpx.Client]:
    """Serve it on a port that the system chooses."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    config = uvicorn.Config(serve.create_app(predictor, **options), log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        assert server.started
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(30)
        listening.close()
    assert not thread.is_alive()


@pytest.fixture
def client(predictor: Predictor) -> Iterator[httpx.Client]:
    with running(predictor, max_samples=8, max_bytes=10_000) as opened:
        yield opened


def rows(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((samples, FEATURES), np.float32)
