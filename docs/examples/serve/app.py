"""Serve a sparse model over HTTP.

    pip install 'dwf-optim[serve]'
    python app.py model.dwf --port 8000
    curl localhost:8000/predict -H 'content-type: application/json' -d '{"inputs": [[0, 0.5, ...]]}'

``POST /predict`` takes JSON, or a float32 array of NumPy (``application/x-npy``), and answers in kind.
``GET /healthz`` and ``/readyz`` say whether it lives and answers, ``GET /metrics`` speaks Prometheus.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
from batching import Batcher, OverloadedError
from fastapi import FastAPI, HTTPException, Request, Response
from metrics import Metrics
from predictors import Predictor, load_predictor

logger = logging.getLogger("serve")

JSON, NPY = "application/json", "application/x-npy"
# A call that takes longer than this many seconds is made beside the event loop.
LONG = 1e-3


def create_app(
    predictor: Predictor,
    *,
    max_samples: int = 64,
    max_bytes: int = 4 << 20,
    max_waiting: int = 1024,
) -> FastAPI:
    """Make the application.

    Args:
        predictor: What to serve.
        max_samples: In one request, and in one call of the model.
        max_bytes: Of one request's body.
        max_waiting: Requests that wait before more are turned away.
    """
    metrics = Metrics(predictor.name)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        batcher = Batcher(
            predictor.predict,
            max_batch=max_samples,
            max_waiting=max_waiting,
            in_thread=_is_long(predictor, max_samples),
            on_batch=metrics.batch.observe,
        )
        async with batcher:
            app.state.batcher = batcher
            yield

    app = FastAPI(title=predictor.name, lifespan=lifespan)

    @app.post("/predict")
    async def predict(request: Request) -> Response:
        with metrics.request():
            kind = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
            rows = _parse(kind, await _read(request, max_bytes), predictor.shape, max_samples)
            try:
                outputs = await request.app.state.batcher(rows)
            except OverloadedError:
                raise HTTPException(503, "too many requests wait", {"retry-after": "1"}) from None
            except Exception:  # whatever it is, the client is to get an answer, and the log the reason
                logger.exception("the model failed")
                raise HTTPException(500, "the model failed") from None
            return _answer(kind, outputs)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz")
    async def readyz(request: Request) -> dict[str, object]:
        """Ask the model itself."""
        await request.app.state.batcher(np.zeros((1, *predictor.shape), np.float32))
        return {"status": "ready", "model": predictor.name, "shape": predictor.shape}

    @app.get("/metrics")
    async def scrape() -> Response:
        return Response(metrics.text(), media_type=metrics.media_type)

    return app


async def _read(request: Request, max_bytes: int) -> bytes:
    """Read the body, and stop where it gets too long, whatever its header promised."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise HTTPException(413, f"a request has at most {max_bytes} bytes")
    return bytes(body)


def _parse(kind: str, body: bytes, shape: tuple[int, ...], max_samples: int) -> np.ndarray:
    """Return float32 ``[samples, *shape]``, or answer 4xx saying what was wrong."""
    try:
        if kind == JSON:
            with np.errstate(over="ignore"):  # too large a number becomes infinite, and is refused below
                rows = np.asarray(json.loads(body)["inputs"], np.float32)
        elif kind == NPY:
            rows = _read_npy(body)
        else:
            raise HTTPException(415, f"send {JSON} or {NPY}, not {kind}")
    except (KeyError, TypeError):
        raise HTTPException(422, 'send {"inputs": [sample, ...]}') from None
    except (EOFError, OverflowError, RecursionError, ValueError) as error:
        raise HTTPException(422, f"the inputs cannot be read: {error}") from None
    if rows.shape[1:] != shape or not 1 <= len(rows) <= max_samples:
        wanted = ", ".join(map(str, (f"1 to {max_samples}", *shape)))
        raise HTTPException(422, f"inputs have shape {list(rows.shape)}, expected [{wanted}]")
    if not np.isfinite(rows).all():
        raise HTTPException(422, "inputs hold NaN, infinity, or numbers beyond float32")
    return np.ascontiguousarray(rows)


def _read_npy(body: bytes) -> np.ndarray:
    """Read an array without ``np.load``, which reserves whatever size the header claims."""
    file = io.BytesIO(body)
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read:
        raise ValueError(f"format {version} is not known")
    shape, by_columns, dtype = read[version](file)
    if dtype != np.float32 or by_columns:
        raise ValueError(f"the array must be of float32 in C order, got {dtype}")
    return np.frombuffer(file.read(), np.float32).reshape(shape)


def _answer(kind: str, outputs: np.ndarray) -> Response:
    if kind == JSON:
        return Response(json.dumps({"outputs": outputs.tolist()}), media_type=JSON)
    file = io.BytesIO()
    np.save(file, outputs)
    return Response(file.getvalue(), media_type=NPY)


def _is_long(predictor: Predictor, samples: int) -> bool:
    rows = np.zeros((samples, *predictor.shape), np.float32)
    predictor.predict(rows)  # the first call allocates
    start = time.perf_counter()
    predictor.predict(rows)
    return time.perf_counter() - start > LONG


def main() -> None:
    """Serve one file until stopped."""
    import uvicorn

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", type=Path, help="an artifact (SparseModel.save), or .onnx")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 to serve others too")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--max-samples", type=int, default=64, help="in one request")
    options = parser.parse_args()
    app = create_app(load_predictor(options.path), max_samples=options.max_samples)
    uvicorn.run(app, host=options.host, port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
