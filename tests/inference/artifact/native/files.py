"""Small models in files, taken apart, and put together again with fresh checksums."""

from __future__ import annotations

import json
import random
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import inference
from benchmarks.networks import prune_
from inference.artifact import keys
from inference.artifact.codec import checksum

START = 8


class Rows(nn.Module):
    """Linear layers, what torch computes between them, sizes, and a table that integers look up."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(9, 6)
        self.fc, self.head = nn.Linear(6, 16), nn.Linear(16, 3)
        self.norm = nn.LayerNorm(16)

    def forward(self, ids):
        x = self.norm(F.gelu(self.fc(self.table(ids))))
        weights = torch.softmax(x @ x.transpose(1, 2) / x.shape[0], -1)
        return self.head(torch.cat((weights @ x, x), 1)), x.amax(1)


class Images(nn.Module):
    """Convolutions, norms, a sum, pools."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(2, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.head = nn.Linear(8 + 32, 3)

    def forward(self, x):
        y = F.relu(self.norm(self.first(x)))
        z = F.max_pool2d(F.leaky_relu(self.second(y) + y, 0.1), 2)
        pooled = F.adaptive_avg_pool2d(z, 1).flatten(1)
        return self.head(torch.cat((pooled, F.avg_pool2d(z, 2, 1, 1)[:, :8, :2, :2].flatten(1)), 1))


def models():
    """Return models and examples by name."""
    torch.manual_seed(0)
    mlp = nn.Sequential(nn.Linear(20, 24), nn.ReLU(), nn.Linear(24, 12), nn.Tanh(), nn.Linear(12, 4))
    return {
        "mlp": (prune_(mlp, 0.9).eval(), torch.zeros(2, 20)),
        "images": (prune_(Images(), 0.9).eval(), torch.zeros(2, 2, 6, 6)),
        "rows": (prune_(Rows(), 0.8).eval(), torch.zeros(2, 4, dtype=torch.long)),
    }


def contents(folder) -> dict[str, bytes]:
    """Save all models; return the files' bytes by name."""
    found = {}
    for name, (model, example) in models().items():
        path = folder / f"{name}.dwf"
        inference.compile(model, example, plan="static").save(path)
        found[name] = path.read_bytes()
    return found


def take_apart(content: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """Return the outer header (safetensors'), the inner one (ours) and the arrays' bytes."""
    length = int.from_bytes(content[:START], "little")
    outer = json.loads(content[START : START + length])
    return outer, json.loads(outer["__metadata__"][keys.META_HEADER]), content[START + length :]


def put_together(outer: dict[str, Any], inner: Any, data: bytes) -> bytes:
    """Undo `take_apart`; all checksums are made anew, so that only what they protect can be wrong."""
    tensors = inner.get(keys.TENSORS) if isinstance(inner, dict) else None
    for name, entry in tensors.items() if isinstance(tensors, dict) else ():
        if isinstance(entry, dict):
            is_csr = entry.get(keys.ENCODING) == keys.CSR
            names = [name + part for part in (keys.VALUES, keys.GAPS, keys.COUNTS)] if is_csr else [name]
            offsets = [outer[each]["data_offsets"] for each in names if each in outer]
            entry[keys.CHECKSUM] = checksum(data[begin:end] for begin, end in offsets)
    header = json.dumps(inner)
    outer = {**outer, "__metadata__": {**outer["__metadata__"]}}
    outer["__metadata__"][keys.META_HEADER] = header
    outer["__metadata__"][keys.META_CHECKSUM] = checksum([header.encode()])
    text = json.dumps(outer).encode()
    text += b" " * (-len(text) % START)
    return len(text).to_bytes(START, "little") + text + data


ODD = (
    *(
        0,
        1,
        2,
        3,
        -1,
        7,
        64,
        255,
        65536,
        2**31 - 1,
        2**31,
        2**40,
        2**62,
        2**63,
        10**30,
        0.5,
        -2.0,
        1e300,
    ),
    *(None, True, False, "", "x", "nan", "Linear", "Conv2d", "TorchOp", "Add", "aten.from_file.default"),
    *("aten.add_.Tensor", "aten.zeros.default", "operator.mul", "operator.pow", "os.system", "relu"),
    *("torch.int8", "cpu", "float16", "bool", "dense", "csr", "0.weight", "fc.weight", "head.bias"),
    *(
        [],
        {},
        [[]],
        [2**40] * 8,
        [0, 0],
        [1, 1],
        {"value": "x"},
        {"tensor": "0.weight"},
        {"float": "nan"},
    ),
    {"tensor": "0.weight", "shape": [2**20, 2**20], "stride": [0, 0], "offset": 0},
)


def edit(draw: random.Random, tree: Any) -> None:
    """Change one place of a JSON tree."""
    places = []

    def walk(node: Any) -> None:
        for key in node if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], dict | list):
                walk(node[key])

    walk(tree)
    if not places:
        return
    node, key = draw.choice(places)
    other, other_key = draw.choice(places)
    kind = draw.randrange(6)
    value = node[key]
    if kind == 0:
        del node[key]
    elif kind == 1:
        node[key] = json.loads(json.dumps(other[other_key]))
    elif kind == 2 and isinstance(node, list):
        node.insert(draw.randrange(len(node) + 1), json.loads(json.dumps(value)))
    elif kind == 3 and isinstance(value, int):
        node[key] = value + draw.choice((-2, -1, 1, 2))
    elif kind == 4 and isinstance(node, dict):
        target = draw.choice(list(node))
        node[target] = node.pop(key)
    else:
        node[key] = draw.choice(ODD)


def flip(draw: random.Random, content: bytes) -> bytes:
    """Change up to eight bytes."""
    changed = bytearray(content)
    for _ in range(draw.randrange(1, 9)):
        changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)


def mutate(draw: random.Random, content: bytes) -> tuple[str, bytes]:
    """Return how a file was changed, and what came out."""
    kind = draw.choice(("flipped", "cut", "outer", "data", *("inner",) * 8))
    if kind == "flipped":
        return kind, flip(draw, content)
    if kind == "cut":
        end = draw.randrange(len(content))
        return kind, content[:end] + draw.choice((b"", bytes(8), content))
    outer, inner, data = take_apart(content)
    if kind == "data":
        return kind, put_together(outer, inner, flip(draw, data))
    if kind == "inner":
        for _ in range(draw.choice((1, 1, 1, 2, 3))):
            edit(draw, inner)
        return kind, put_together(outer, inner, data)
    whole = put_together(outer, inner, data)
    outer, _, data = take_apart(whole)
    edit(draw, outer)
    text = json.dumps(outer).encode()
    return kind, len(text).to_bytes(START, "little") + text + data
