"""What lies in the wheel and in the sdist."""

from __future__ import annotations

from pathlib import Path

from tests.environment import PACKAGES_WITH_EXTENSION, ROOT

PACKAGES = ("dwf_optim", "inference")
LIMIT = 500_000  # bytes of the wheel for each compiled library (three instruction sets in each)


def files(pattern: str) -> set[str]:
    return {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in ROOT.glob(f"{package}/{pattern}")
        if path.is_file()
    }


def test_the_wheel_holds_the_packages_and_nothing_else(names_in_wheel: list[str]) -> None:
    expected = files("**/*.py") | files("**/*.pyi") | files("**/py.typed")
    inside = {name for name in names_in_wheel if ".dist-info/" not in name and not name.endswith(".so")}
    assert inside == expected
    assert {"dwf_optim/optimizer.py", "dwf_optim/step/native.py", "inference/modules/swap.py"} < inside


def test_the_wheel_holds_every_extension(names_in_wheel: list[str]) -> None:
    libraries = [Path(name) for name in names_in_wheel if name.endswith(".so")]
    extensions = [library for library in libraries if library.name.startswith("_native.")]
    assert sorted(str(library.parent) for library in extensions) == PACKAGES_WITH_EXTENSION
    assert "dwf_optim" in PACKAGES_WITH_EXTENSION
    others = [str(library) for library in libraries if library not in extensions]
    assert others == ["inference/libdwf_onnxruntime.so"]


def test_the_wheel_is_small(wheel: Path, names_in_wheel: list[str]) -> None:
    size = wheel.stat().st_size
    libraries = sum(name.endswith(".so") for name in names_in_wheel)
    assert size < LIMIT * libraries, f"{wheel.name} has {size:,} bytes"


def test_the_sdist_holds_what_the_wheel_is_built_from(names_in_sdist: list[str]) -> None:
    sources = files("csrc/**/*") | files("**/*.py")
    sources |= {str(path.relative_to(ROOT)) for path in ROOT.glob("csrc/*")}  # what both share
    sources |= {"CMakeLists.txt", "pyproject.toml", "README.md", "LICENSE"}
    assert sources <= set(names_in_sdist)
    assert not [name for name in names_in_sdist if name.endswith((".so", ".o", ".pyc"))]
