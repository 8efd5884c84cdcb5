"""That the tests run on the build that they are meant to, and that it would stop."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.environment import PACKAGES_WITH_EXTENSION


@pytest.mark.parametrize("package", PACKAGES_WITH_EXTENSION)
def test_the_extension_is_of_the_sanitized_build(package: str) -> None:
    file = Path(importlib.import_module(f"{package}._native").__file__)
    assert file.is_relative_to(sys.prefix)
    code = file.read_bytes()
    assert b"__asan_" in code
    assert b"__ubsan_" in code


def test_a_step_past_the_end_of_a_tensor_is_stopped() -> None:
    script = Path(__file__).with_name("overrun.py")
    run = subprocess.run([sys.executable, "-I", script], capture_output=True, text=True)
    assert run.returncode != 0
    assert "ERROR: AddressSanitizer" in run.stderr
    assert "dwf_optim/csrc/kernel.cpp" in run.stderr
