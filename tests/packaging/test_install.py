"""The wheel works where there is no compiler; so does an sdist installed there, by torch alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.contract.common import rounding
from tests.environment import Environment

NO_COMPILER = {"CC": "false", "CXX": "false"}


def train(environment: Environment, folder: Path) -> dict[str, Any]:
    """Train where no program at all is found."""
    script, out = Path(__file__).with_name("train.py"), folder / "out.pt"
    run = environment.run(script, out, PATH="", **NO_COMPILER)
    assert run.returncode == 0, run.stderr
    result = torch.load(out, weights_only=True)
    assert all(Path(file).is_relative_to(environment.packages) for file in result["files"])
    return result


@pytest.fixture(scope="module")
def from_wheel(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("wheel")
    environment = Environment(folder / "environment")
    environment.install(wheel, PATH="", **NO_COMPILER)
    return train(environment, folder)


@pytest.fixture(scope="module")
def from_sdist(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("sdist")
    environment = Environment(folder / "environment")
    environment.install(sdist, **NO_COMPILER)
    return train(environment, folder)


def test_the_wheel_trains_with_the_extension(from_wheel: dict[str, Any]) -> None:
    assert from_wheel["has_extension"]
    assert not from_wheel["messages"]


def test_the_sdist_trains_without_the_extension_and_says_so_once(from_sdist: dict[str, Any]) -> None:
    assert not from_sdist["has_extension"]
    (message,) = from_sdist["messages"]
    assert message.startswith("dwf_optim: the compiled extension is not installed")


def test_both_train_the_same(from_wheel: dict[str, Any], from_sdist: dict[str, Any]) -> None:
    for native, plain in zip(from_wheel["weights"], from_sdist["weights"], strict=True):
        assert float((native - plain).norm() / plain.norm()) <= rounding(torch.float32, 20)
