"""Values that came out of JSON, of which nothing is sure, as what they should be."""

from __future__ import annotations

from typing import Any

from inference.artifact.keys import MAX_DIMS, MAX_SIZE


def as_dict(value: object, what: str) -> dict[str, Any]:
    """Return a JSON object; ``what`` it is goes into the ValueError that anything else gets."""
    if not isinstance(value, dict):
        raise ValueError(f"{what} must be an object, got {brief(value)}")
    return value


def as_list(value: object, what: str) -> list[Any]:
    """Return a list."""
    if not isinstance(value, list):
        raise ValueError(f"{what} must be a list, got {brief(value)}")
    return value


def as_str(value: object, what: str) -> str:
    """Return a text."""
    if not isinstance(value, str):
        raise ValueError(f"{what} must be a text, got {brief(value)}")
    return value


def as_bool(value: object, what: str) -> bool:
    """Return True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{what} must be true or false, got {brief(value)}")
    return value


def as_int(value: object, what: str, least: int = 0, most: int = MAX_SIZE) -> int:
    """Return an integer between two bounds, inclusive."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{what} must be an integer from {least} to {most}, got {brief(value)}")
    return value


def sizes(value: object, what: str, least: int = 0, most: int = MAX_SIZE) -> tuple[int, ...]:
    """Return a list of at most `MAX_DIMS` integers as a tuple."""
    found = as_list(value, what)
    if len(found) > MAX_DIMS:
        raise ValueError(f"{what} must have at most {MAX_DIMS} dimensions, got {len(found)}")
    return tuple(as_int(item, what, least, most) for item in found)


def brief(value: object) -> str:
    """Return a value as text that is not long."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
