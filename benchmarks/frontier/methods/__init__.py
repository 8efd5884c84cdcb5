"""All methods by name. To add one, write its file and its line."""

from __future__ import annotations

from benchmarks.frontier.method import Method
from benchmarks.frontier.methods.dwf import DWF2, DWF3, DWF4
from benchmarks.frontier.methods.gmp import GradualMagnitude
from benchmarks.frontier.methods.l1 import L1
from benchmarks.frontier.methods.magnitude import Magnitude, MagnitudeFinetuned
from benchmarks.frontier.methods.pwd import PWD1, PWDHalf, PWDTwoThirds
from benchmarks.frontier.methods.random import RandomPruning
from benchmarks.frontier.methods.snip import SNIP
from benchmarks.frontier.methods.synflow import SynFlow

METHODS: dict[str, type[Method]] = {
    "dense": Method,
    "dwf-2": DWF2,
    "dwf-3": DWF3,
    "dwf-4": DWF4,
    "l1": L1,
    "magnitude": Magnitude,
    "magnitude-finetuned": MagnitudeFinetuned,
    "gmp": GradualMagnitude,
    "snip": SNIP,
    "synflow": SynFlow,
    "random": RandomPruning,
    "pwd-1": PWD1,
    "pwd-2/3": PWDTwoThirds,
    "pwd-1/2": PWDHalf,
}
