"""Model files from strangers: a damaged or made-up program gives an error, never a crash."""

from __future__ import annotations

import random
import struct

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from benchmarks.networks import prune_
from inference.onnx import make_onnx, session
from inference.onnx.recording import MAGIC, VERSION, encode

MUTATIONS = 400
# What our library says; anything else would come from behind its checks.
OURS = "dwf: "


def model():
    layers = [
        nn.Conv2d(2, 6, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 4, 3),
        nn.Flatten(),
    ]
    return prune_(nn.Sequential(*layers, nn.Linear(16, 5), nn.GELU(), nn.Linear(5, 3)), 0.5).eval()


@pytest.fixture(scope="module")
def proto():
    torch.manual_seed(0)
    return make_onnx(model(), torch.zeros(1, 2, 8, 8), "custom-op")


def with_program(proto, program):
    changed = onnx.ModelProto.FromString(proto.SerializeToString())
    changed.graph.node[0].attribute[0].s = program
    return changed


def mutated(program, draw):
    """Change, cut out, double or insert some bytes."""
    data = bytearray(program)
    for _ in range(draw.choice((1, 1, 2, 8))):
        at, size = draw.randrange(len(data)), draw.choice((1, 1, 4, 9))
        kind = draw.randrange(6)
        if kind == 0:
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            data[at] = draw.choice((0, 1, 127, 128, 255))
        elif kind == 2:
            del data[at : at + size]
        elif kind == 3:
            data[at:at] = data[at : at + size]
        elif kind == 4:
            data[at : at + 4] = struct.pack(
                "<I", draw.choice((0, 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1))
            )
        else:
            del data[at:]
        if not data:
            break
    return bytes(data)


def attempt(proto, program):
    """Open a program and run it; returns what went wrong, or "" if nothing did."""
    x = np.ones((3, 2, 8, 8), np.float32)
    try:
        # Some mutations are programs of other shapes.
        session(with_program(proto, program)).run(None, {"input": x})
    except Exception as error:
        return str(error)
    return ""


def test_damaged_programs(proto):
    program, draw = proto.graph.node[0].attribute[0].s, random.Random(0)
    results = [attempt(proto, mutated(program, draw)) for _ in range(MUTATIONS)]
    assert all(OURS in result for result in results if result)
    # Of a changed weight nobody can know.
    assert sum(map(bool, results)) > MUTATIONS / 2
    assert attempt(proto, program) == ""


def test_every_cut(proto):
    program = proto.graph.node[0].attribute[0].s
    for size in [*range(60), *range(60, len(program), 37)]:
        assert "ends too early" in attempt(proto, program[:size])


def numbers(*values):
    return struct.pack(f"<{len(values)}I", *values)


def program(values, inputs=(0,), calls=(), outputs=(1,), lanes=1, rows=1, shapes=((2,), (2,))):
    made = [MAGIC, numbers(VERSION, lanes, len(values)), *(numbers(*value) for value in values)]
    made += [numbers(len(inputs), *inputs), numbers(len(calls))]
    for name, *arguments in calls:
        made += [numbers(len(name)), name.encode(), bytes([len(arguments)]), *map(encode, arguments)]
    made += [numbers(len(outputs), *outputs), numbers(rows)]
    for shape in shapes:
        made += [numbers(1), numbers(len(shape), *shape)]
    return b"".join(made)


ROW = (2, 1, 1, 0, 0)
RELU = ("elementwise", 0, 1, "relu", 0.0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "ends too early"),
        (b"XXXX" + numbers(1), "this is no program"),
        (MAGIC + numbers(VERSION + 1), "has version 2, this library reads 1; export the model again"),
        (program([ROW, ROW], calls=[RELU]) + b"\0", "goes on behind its end"),
        (program([ROW, ROW], calls=[RELU], lanes=48), "no tile has 48 lanes"),
        (program([(0, 1, 1, 0, 0), ROW], calls=[RELU]), "has no elements"),
        (program([(2**31, 2**31, 2, 0, 0), ROW], calls=[RELU]), "cannot be that large"),
        (program([(2**29, 1, 1, 0, 0)] * 4, calls=[RELU], lanes=16), "values are too large"),
        (program([ROW, ROW], calls=[("system", "echo")]), 'there is no op "system"'),
        (program([ROW, ROW], calls=[("elementwise", 0)]), "an argument is missing"),
        (program([ROW, ROW], calls=[(*RELU, 1)]), "too many arguments"),
        (program([ROW, ROW], calls=[("elementwise", 0, 1, 1)]), "not a text"),
        (program([ROW, ROW], calls=[("elementwise", 2**40, 1, "relu")]), "not an integer of 32 bits"),
        (program([ROW, ROW], calls=[("elementwise", 0, 7, "relu")]), "there is no value 7"),
        (program([ROW, ROW], calls=[("elementwise", 0, 1, "swish")]), 'unknown activation "swish"'),
        (program([ROW, ROW]), "no op makes output 1"),
        (program([ROW, ROW], calls=[RELU], rows=0), "has no samples"),
        (program([ROW, ROW], calls=[RELU], shapes=((3,), (2,))), "as many elements"),
        (program([ROW, ROW], inputs=(0, 0), calls=[RELU]), "already there"),
        (program([ROW, ROW], inputs=(9,), calls=[RELU]), "there is no value 9"),
        (program([ROW, ROW], inputs=(), calls=[RELU]), "reads value 0, which none before it makes"),
        (
            program([ROW, ROW], calls=[("dense_linear", 0, 1, [1.0, 2.0])]),
            "not an array of this type",
        ),
        (
            program([ROW, ROW], calls=[("concat", [[[[[[0]]]]]], 1)]),
            "lists are too deep",
        ),
    ],
)
def test_made_up_programs(proto, content, message):
    assert message in attempt(proto, content)


def test_a_program_by_hand(proto):
    """What the tests above change is right before."""
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node(
        "SparseProgram", ["x"], ["y"], domain="dwf", program=program([ROW, ROW], calls=[RELU])
    )
    graph = onnx.helper.make_graph([node], "g", [value("x", 1, [None, 2])], [value("y", 1, [None, 2])])
    opsets = [onnx.helper.make_opsetid("dwf", 1), onnx.helper.make_opsetid("", 20)]
    opened = session(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9))
    x = np.array([[-1, 2], [3, -4]], np.float32)
    np.testing.assert_array_equal(opened.run(None, {"x": x})[0], np.maximum(x, 0))


def test_as_many_inputs_and_outputs_as_the_program(proto):
    changed = onnx.ModelProto.FromString(proto.SerializeToString())
    changed.graph.node[0].output.append("another")
    with pytest.raises(Exception, match="not as many inputs and outputs"):
        session(changed)
