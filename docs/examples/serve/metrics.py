"""What the server counts, for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import HTTPException
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest

SECONDS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1)
SAMPLES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Requests, their seconds, and the batches that they made."""

    media_type = CONTENT_TYPE_LATEST

    def __init__(self, model: str) -> None:
        """Starts at zero, in a registry of its own: several applications can live in one process.

        Args:
            model: Its name, a label of every count.
        """
        self._registry = CollectorRegistry()
        names = {"labelnames": ("model",), "registry": self._registry}
        self.requests = Counter(
            "requests", "Answers, by HTTP status", ("model", "status"), registry=self._registry
        )
        self.seconds = Histogram(
            "request_seconds", "From request to answer", buckets=SECONDS, **names
        ).labels(model)
        self.batch = Histogram(
            "batch_samples", "Samples a call of the model", buckets=SAMPLES, **names
        ).labels(model)
        self._model = model

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count one request by how it ends."""
        start, status = time.perf_counter(), 500
        try:
            yield
            status = 200
        except HTTPException as error:
            status = error.status_code
            raise
        finally:
            self.seconds.observe(time.perf_counter() - start)
            self.requests.labels(self._model, str(status)).inc()

    def text(self) -> bytes:
        """Return all of it in Prometheus' format."""
        return generate_latest(self._registry)
