"""Arguments meant to harm: each is refused with a TypeError or ValueError, or computed rightly.

`make sanitize` runs this on a build that stops at the first access out of bounds.
"""

import ctypes

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inference import _native
from tests.inference.native import linear

IN, OUT = 12, 5
REFUSED = (TypeError, ValueError)
WEIGHT = linear.weights(OUT, IN, 0.5)
programs = st.builds(
    lambda kernel, instruction_set: linear.program(WEIGHT, None, kernel, "", instruction_set),
    st.sampled_from(linear.KERNELS),
    st.sampled_from(linear.SETS),
)

sizes = st.sampled_from([0, 1, 2, 3, OUT, IN, 16, 17, 64, 65])
shapes = st.one_of(
    *[st.tuples(st.sampled_from([1, 17]), st.sampled_from([IN, OUT]))] * 3,
    st.tuples(sizes, st.sampled_from([IN, OUT])),
    st.lists(sizes, max_size=4).map(tuple),
    st.sampled_from([(2, 3, 4), (2, 1, IN, 1), (0, 2**40), (1,) * 40, (2, IN) + (1,) * 30]),
)
DTYPES = [*["f4"] * 12, ">f4", "f2", "f8", "i4", "u1", "?", "c8", "O", "S4", "M8[s]", [("a", "f4")]]


class Bogus:
    """Claims to be an array in all the ways there are."""

    shape, ndim, dtype = (2, IN), 2, np.dtype(np.float32)
    __array_interface__ = {"shape": (2, IN), "typestr": "<f4", "data": (8, False), "version": 3}  # noqa: RUF012

    def __dlpack__(self, *args, **kwargs):
        return ctypes.pythonapi.PyLong_FromLong

    def __dlpack_device__(self):
        return 1, 0

    def detach(self):
        return self

    def numpy(self):
        return 8


class Pretending(torch.Tensor):
    """A tensor whose methods lie."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return (2**40, 2**40)


def strided(x, how):
    """Return the same numbers as ever, laid out in another way."""
    if how == "reversed" and x.ndim:
        return x[::-1]
    if how == "transposed":
        return np.ascontiguousarray(x.T).T
    if how == "gaps" and x.ndim:
        return np.repeat(x, 2, axis=-1)[..., ::2]
    if how == "broadcast" and x.ndim:
        return np.broadcast_to(x[:1], x.shape)
    if how == "unaligned" and x.dtype == np.float32:
        raw = np.empty(x.nbytes + 1, np.uint8)
        shifted = raw[1:].view(np.float32).reshape(x.shape)
        shifted[...] = x
        return shifted
    if how == "read-only":
        x.flags.writeable = False
    return x


@st.composite
def arrays(draw):
    shape = draw(shapes)
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    if np.prod(shape, dtype=float) > 1e5:
        shape = (0,)
    x = np.zeros(shape, dtype)
    if dtype == np.float32:
        x[...] = np.random.default_rng(draw(st.integers(0, 99))).standard_normal(shape)
    how = ["plain", "plain", "reversed", "transposed", "gaps", "broadcast", "unaligned", "read-only"]
    return strided(x, draw(st.sampled_from(how)))


@st.composite
def tensors(draw):
    x = draw(arrays().filter(lambda x: x.dtype.kind in "fiu" and x.dtype.isnative and x.flags.writeable))
    made = torch.from_numpy(x if min(x.strides, default=0) >= 0 and x.flags.aligned else x.copy())
    kinds = {
        "plain": lambda: made,
        "gradient": lambda: made.float().requires_grad_(),
        "parameter": lambda: torch.nn.Parameter(made.float()),
        "bfloat16": lambda: made.bfloat16(),
        "meta": lambda: made.to("meta"),
        "sparse": lambda: made.float().to_sparse(),
        "expanded": lambda: made[:1].expand(made.shape) if made.ndim and len(made) else made,
        "transposed": lambda: made.t() if made.ndim == 2 else made,
        "pretending": lambda: made.as_subclass(Pretending),
        "complex": lambda: made.to(torch.complex64),
    }
    return kinds[draw(st.sampled_from([*kinds, "plain", "gradient"]))]()


OTHERS = [
    *(lambda: None, lambda: 0, lambda: 2**70, lambda: 1.5, lambda: "x", lambda: b"1234", Bogus),
    *(dict, list, tuple, object, lambda: Bogus, lambda: [None], lambda: [[0.0] * IN], lambda: iter([])),
    lambda: bytearray(4 * IN),
    lambda: [np.zeros((2, IN), np.float32)] * 3,
    lambda: (ctypes.c_float * IN)(),
    lambda: memoryview(bytearray(8 * IN)).cast("f", [2, IN]),
    lambda: memoryview(bytes(8 * IN)).cast("f", [2, IN]),
]
others = st.integers(0, len(OTHERS) - 1).map(lambda k: OTHERS[k]())

anything = st.one_of(arrays(), arrays(), tensors(), tensors(), others)


@given(
    programs,
    anything,
    anything,
    st.sampled_from([1, 1, 1, 2, 0, -1, 2**31, 2**64, None]),
)
def test_any_arguments(program, x, out, threads):
    try:
        program.run(x, out, threads)
    except REFUSED:
        return
    except OverflowError:
        assert threads >= 2**31
        return
    given = np.asarray(x.detach() if isinstance(x, torch.Tensor) else x)
    made = np.asarray(out.detach() if isinstance(out, torch.Tensor) else out)
    wide = linear.expected(WEIGHT, None, given.reshape(-1, IN))
    assert linear.close(made.reshape(-1, OUT), wide)


@given(programs, anything, anything, st.integers(-1, 2))
def test_any_tiles(program, x, out, threads):
    try:
        program.run_tiles(x, out, threads)
    except REFUSED:
        return
    except OverflowError:
        assert threads >= 2**31
        return
    assert np.asarray(x).shape[0] == np.asarray(out).shape[0]


@pytest.mark.parametrize("shift", [0, 1, IN * 4 - 1, -OUT * 4 + 1])
@pytest.mark.parametrize("kind", [lambda x: x, torch.from_numpy])
def test_an_output_over_an_input(shift, kind):
    program = linear.program(WEIGHT)
    memory = np.zeros(400, np.float32)
    x = memory[100 : 100 + 4 * IN].reshape(4, IN)
    out = memory[100 + shift : 100 + shift + 4 * OUT].reshape(4, OUT)
    with pytest.raises(ValueError, match="an output overlaps an input"):
        program.run(kind(x), kind(out))
    beside = memory[100 + 4 * IN : 100 + 4 * IN + 4 * OUT].reshape(4, OUT)
    program.run(kind(x), kind(beside))


def test_outputs_over_each_other():
    builder = _native.Builder()
    value = builder.value((IN, 1, 1, 0, 0))
    builder.input(value)
    outputs = [linear.add_layer(builder, value, WEIGHT, None) for _ in range(2)]
    program = builder.build(outputs)
    memory = np.zeros((6, OUT), np.float32)
    x = np.ones((4, IN), np.float32)
    with pytest.raises(ValueError, match="outputs overlap"):
        program.run([x], [memory[:4], memory[2:]])
    with pytest.raises(ValueError, match="1 inputs and 2 outputs"):
        program.run([x], [memory[:4]])


INTS = st.sampled_from([-(2**31), -1, 0, 0, 1, 1, 2, 3, 4, 5, 2**20, 2**31 - 1, 2**40])
SMALL = st.integers(1, 6)
floats = st.builds(lambda shape: np.ones(shape, np.float32), st.lists(st.integers(0, 6), max_size=4))
ints = st.builds(lambda values: np.array(values, np.int32), st.lists(st.integers(-2, 7), max_size=8))


@given(st.data())
def test_any_program(data):
    """Whatever is asked of a builder, it refuses or makes something that runs within its memory."""
    draw = data.draw
    builder = _native.Builder("", draw(st.sampled_from([1, 16, 64])))
    layouts = []

    def attempt(method, *arguments):
        try:
            return method(*arguments)
        except (*REFUSED, OverflowError):
            return None

    for _ in range(draw(st.integers(2, 4))):
        wild = draw(st.integers(0, 9)) == 0
        number = INTS if wild else SMALL
        layout = (draw(number), draw(number), draw(number), draw(INTS if wild else st.integers(0, 2)), 0)
        if attempt(builder.value, layout) is not None:
            layouts.append(layout)
    attempt(builder.input, 0)
    value = st.integers(-1, len(layouts))
    activation = st.sampled_from(["", "relu", "gelu", "nonsense"])
    for _ in range(draw(st.integers(1, 3))):
        source, target = draw(value), draw(value)
        window = tuple(draw(st.one_of(SMALL, INTS)) for _ in range(8))
        csr = (draw(ints), draw(ints), draw(floats))
        bias = draw(st.one_of(st.none(), floats))
        spans = [
            [
                (draw(INTS), draw(INTS), draw(st.sampled_from([0.0, 1.0, np.nan])))
                for _ in range(draw(SMALL))
            ]
            for _ in range(2)
        ]
        calls = [
            (builder.sparse_linear, source, target, *csr, bias, draw(activation)),
            (builder.dense_linear, source, target, draw(floats), bias, draw(activation)),
            (builder.sparse_conv, source, target, *csr, window, draw(INTS), bias, draw(value)),
            (builder.dense_conv, source, target, draw(floats), window, draw(INTS), bias, draw(value)),
            (builder.pool, source, target, draw(st.booleans()), *spans, (draw(INTS), draw(INTS))),
            (builder.concat, [source] * draw(SMALL), target),
            (builder.add, source, draw(value), target),
            (builder.affine, source, target, draw(floats), draw(floats)),
            (builder.elementwise, source, target, draw(activation)),
            (builder.softmax, source, target),
        ]
        attempt(*draw(st.sampled_from(calls)))
    outputs = draw(st.lists(value, max_size=2))
    program = attempt(builder.build, outputs)
    if program is None or any(max(layout) > 10 for layout in layouts):
        return
    batch = draw(st.sampled_from([1, 3, 17]))
    given = np.ones((batch, int(np.prod(layouts[0][:3]))), np.float32)
    made = [np.empty((batch, int(np.prod(layouts[k][:3]))), np.float32) for k in outputs]
    program.run([given], made)
