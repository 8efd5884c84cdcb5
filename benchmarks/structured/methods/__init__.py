"""All methods by name. To add one, write its file and its line."""

from __future__ import annotations

from benchmarks.structured.method import Method
from benchmarks.structured.methods.dwf import DWF2, DWF3, DWF4, FinetunedDWF3
from benchmarks.structured.methods.group_lasso import GroupLasso
from benchmarks.structured.methods.l1_filters import L1Filters
from benchmarks.structured.methods.slimming import NetworkSlimming

METHODS: dict[str, type[Method]] = {
    "dense": Method,
    "dwf-2": DWF2,
    "dwf-3": DWF3,
    "dwf-4": DWF4,
    "dwf-3-finetuned": FinetunedDWF3,
    "group-lasso": GroupLasso,
    "l1-filters": L1Filters,
    "slimming": NetworkSlimming,
}
