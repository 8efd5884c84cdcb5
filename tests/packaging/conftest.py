"""What `make dist` has built."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.environment import ROOT


def only(pattern: str) -> Path:
    found = list(ROOT.glob(pattern))
    assert len(found) == 1, f"{len(found)} files are {pattern}: run make packaging, which builds it"
    return found[0]


@pytest.fixture(scope="session")
def sdist() -> Path:
    return only("dist/*.tar.gz")


@pytest.fixture(scope="session")
def wheel() -> Path:
    return only("dist/*.whl")


@pytest.fixture(scope="session")
def names_in_wheel(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


@pytest.fixture(scope="session")
def names_in_sdist(sdist: Path) -> list[str]:
    """Without the folder that all of it lies in."""
    with tarfile.open(sdist) as archive:
        return [name.partition("/")[2] for name in archive.getnames()]
