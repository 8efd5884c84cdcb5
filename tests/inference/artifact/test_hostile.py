"""Files made to do harm: each is refused before it can, with the reason."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

import inference
from inference.artifact import keys
from inference.artifact.allowed import is_allowed
from tests.inference.artifact.native.files import START, contents, put_together, take_apart


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return contents(tmp_path_factory.mktemp("files"))


def node(inner, kind):
    """Return the first node of a type."""
    return next(each for each in inner[keys.GRAPH]["nodes"] if each["type"] == kind)


def torch_op(inner, target):
    return next(each for each in inner[keys.GRAPH]["nodes"] if each.get("target") == target)


def refuse(tmp_path, content, reason, **options):
    path = tmp_path / "hostile.dwf"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"(?s)hostile\.dwf cannot be loaded: .*{reason}"):
        inference.load(path, **options)


def edited(content, edit):
    """Return a file after ``edit`` has changed its header, with fresh checksums."""
    outer, inner, data = take_apart(content)
    edit(inner)
    return put_together(outer, inner, data)


def set_in(*places):
    """Return an edit that sets the last of ``places`` at the others."""
    *path, key, value = places

    def edit(inner):
        for place in path:
            inner = place(inner) if callable(place) else inner[place]
        inner[key] = value

    return edit


def linear(inner):
    return node(inner, "Linear")


def conv(inner):
    return node(inner, "Conv2d")


def pool(inner):
    return node(inner, "MaxPool2d")


def norm(inner):
    return node(inner, "BatchNorm")


def concat(inner):
    return node(inner, "Concat")


def first_shape(inner):
    return inner[keys.GRAPH]["shapes"]


HUGE = {"tensor": "0.weight", "shape": [2**20, 2**20], "stride": [0, 0], "offset": 0}
EDITS = {
    "a tensor that is not there": ("mlp", set_in(linear, "weight", "nobody"), "no tensor 'nobody'"),
    "a view beyond its tensor": ("mlp", set_in(linear, "weight", HUGE), "leaves its tensor"),
    "a transposed weight": ("mlp", set_in(linear, "weight", "2.weight"), "does not make"),
    "a weight for a bias": ("mlp", set_in(linear, "bias", "0.weight"), "vector of 24"),
    "a value that comes later": ("mlp", set_in(linear, "inputs", ["linear_2"]), "no node before it"),
    "no input": ("mlp", set_in(linear, "inputs", []), "has 0 inputs"),
    "itself as input": ("mlp", set_in(linear, "inputs", ["linear"]), "no node before it"),
    "a name twice": ("mlp", set_in(linear, "name", "2"), "two nodes have the same name"),
    "an unknown layer": ("mlp", set_in(linear, "type", "Exec"), "no known type"),
    "an unknown entry": ("mlp", set_in(linear, "hook", "x"), "unknown entries"),
    "an unknown activation": (
        "mlp",
        lambda i: node(i, "Elementwise")["activation"].update(kind="eval"),
        "unknown activation",
    ),
    "another shape": ("mlp", set_in(first_shape, "linear", [25]), "does not make"),
    "a huge value": ("mlp", set_in(first_shape, "linear", [2**40]), "more than"),
    "an input of another shape": (
        "mlp",
        lambda i: i[keys.INPUTS][0].update(shape=[3]),
        "is described as",
    ),
    "an input too many": ("mlp", lambda i: i[keys.INPUTS].append(i[keys.INPUTS][0]), "described by 2"),
    "groups that do not divide": ("images", set_in(conv, "groups", 3), "in 3 groups does not fit"),
    "no groups": ("images", set_in(conv, "groups", 0), "from 1 to"),
    "a stride of zero": ("images", set_in(conv, "stride", [0, 1]), "from 1 to"),
    "far too much padding": ("images", set_in(conv, "padding", [2**20, 2**20]), "zeros around it"),
    "a kernel as large as the earth": ("images", set_in(pool, "kernel", [2**31, 1]), "from 1 to"),
    "a pool padded by more than half": ("images", set_in(pool, "padding", [2, 2]), "pad"),
    "a BatchNorm of others' statistics": ("images", set_in(norm, "mean", "head.bias"), "vector of 8"),
    "the batch as dimension": ("images", set_in(concat, "dim", 0), "from 1 to"),
    "a dimension that is not there": ("images", set_in(concat, "dim", 2), "no dimension 2"),
    "a plan for no batch": (
        "mlp",
        lambda i: i[keys.PLAN].update(choices={"0": {}}),
        "no plan|batch sizes",
    ),
    "too many plans": (
        "mlp",
        lambda i: i[keys.PLAN].update(
            choices={str(n): {"native": True, "kernels": {}} for n in range(1, 66)}
        ),
        "more than 64 batch sizes",
    ),
    "tied to nothing": ("mlp", set_in(keys.TIED, "x", "nobody"), "cannot be tied"),
    "no graph": ("mlp", lambda i: i.pop(keys.GRAPH), "load_state"),
    "no inputs": ("mlp", lambda i: i.pop(keys.INPUTS), "inputs must be a list"),
    "a tensor that claims 100 GB": (
        "mlp",
        set_in(keys.TENSORS, "0.weight", keys.SHAPE, [24, 10**9]),
        "when dense",
    ),
    "an unknown dtype": ("mlp", set_in(keys.TENSORS, "0.weight", keys.DTYPE, "object"), "unknown dtype"),
    "an unknown encoding": (
        "mlp",
        set_in(keys.TENSORS, "0.weight", keys.ENCODING, "zip"),
        "unknown encoding",
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_headers_that_lie(name, files, tmp_path):
    file, edit, reason = EDITS[name]
    refuse(tmp_path, edited(files[file], edit), reason)


@pytest.mark.parametrize(
    "target",
    [
        "aten.from_file.default",  # maps a file
        "aten.save.default",  # of TorchScript: writes one
        "aten._print.default",
        "aten.add_.Tensor",
        "aten.set_.source_Tensor",
        "aten.resize_.default",
        "aten.add.out",
        "aten.empty.memory_format",  # shows what was in memory before
        "aten.as_strided.default",
        "aten._unsafe_index.Tensor",
        "aten._reshape_alias.default",
        "aten.record_stream.default",
        "prim.Print.default",
        "prims.add.default",
        "profiler._record_function_enter_new.default",
        "inductor.resize_storage_bytes_.default",
        "torchscript.anything.default",
        "operator.attrgetter",
        "operator.setitem",
        "operator.__import__",
        "torch.load",
        "torch.sym_max.__call__",
        "os.system",
        "builtins.eval",
        "aten",
        "aten.",
        "aten.add",
        "aten.add.__class__",
        "aten.add.default.__globals__",
        "",
        ".",
    ],
)
def test_operators_that_are_not_arithmetic(target, files, tmp_path):
    def edit(inner):
        torch_op(inner, "aten.layer_norm.default")["target"] = target

    refuse(tmp_path, edited(files["rows"], edit), "may only name")


def test_what_torch_exports_is_allowed_and_writes_nothing():
    for target in ("aten.add.Tensor", "aten.layer_norm.default", "operator.mul", "torch.sym_max"):
        assert is_allowed(target)


def replace_op(inner, **changes):
    """Make the model's first operator of torch another one."""
    op = torch_op(inner, "aten.layer_norm.default")
    op.update(changes)
    return op


@pytest.mark.parametrize(
    ("target", "args", "reason"),
    [
        ("aten.zeros.default", [[2**20, 2**20]], "more than"),
        ("aten.full.default", [[2**62, 2**62], 1.0], "cannot be computed"),
        ("aten.arange.default", [10**15], "more than"),
        ("aten.repeat.default", [{"value": None}, [2**30, 1, 1]], "more than"),
        ("aten.expand.default", [{"value": None}, [2, 4, 6]], "declares|cannot be computed"),
        ("aten.relu.default", [], "cannot be computed"),
        ("aten.relu.default", ["text"], "cannot be computed"),
        ("operator.mul", ["x", 10**12], "numbers only"),
        ("operator.mul", [[0], 10**12], "must|numbers only"),
        ("operator.mod", ["%999999999d", 1], "numbers only"),
        ("operator.pow", [10, 10**9], "exponent"),
        ("operator.mul", [2**62, 4], "no size"),
        ("operator.add", [{"value": None}, 1], "numbers only"),
    ],
)
def test_arguments_that_take_all_memory(target, args, reason, files, tmp_path):
    def edit(inner):
        op = torch_op(inner, "aten.layer_norm.default")
        given = [{"value": op["inputs"][0]} if item == {"value": None} else item for item in args]
        op.update(target=target, args=given)

    refuse(tmp_path, edited(files["rows"], edit), reason)


def test_an_operator_reads_only_what_it_says(files, tmp_path):
    def edit(inner):
        torch_op(inner, "aten.layer_norm.default")["args"][0] = {"value": inner[keys.GRAPH]["inputs"][0]}

    refuse(tmp_path, edited(files["rows"], edit), "not among its inputs")


def test_limits_of_the_caller(files, tmp_path):
    size = len(files["images"])
    refuse(
        tmp_path,
        files["images"],
        f"its {size} bytes are more than the {size - 1} allowed",
        max_bytes=size - 1,
    )
    refuse(tmp_path, files["images"], "max_bytes", max_bytes=size)


def test_a_small_file_cannot_take_much_memory(tmp_path):
    """Loaded where little more memory may be taken than Python and torch take by themselves."""
    tensor = torch.zeros(2**14, 2**14)
    tensor[5, 7] = 1.0
    inference.save_state(tmp_path / "wide.dwf", {"weight": tensor})
    outer, inner, data = take_apart((tmp_path / "wide.dwf").read_bytes())
    inner[keys.TENSORS]["weight"][keys.SHAPE] = [2**14, 2**30]
    (tmp_path / "huge.dwf").write_bytes(put_together(outer, inner, data))
    assert (tmp_path / "huge.dwf").stat().st_size < 20_000
    script = (
        "import resource, sys, inference\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    inference.load_state(sys.argv[1])\n"
        "except ValueError as error:\n    assert 'when dense' in str(error), error\n"
        "else:\n    sys.exit('loaded')\n"
        "after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "sys.exit(after - before > 2**15 and f'{after - before} KiB taken')\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "huge.dwf"], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("version", ["2", "999", "0", "x", ""])
def test_other_versions_say_what_to_do(version, files, tmp_path):
    outer, _, data = take_apart(files["mlp"])
    outer["__metadata__"][keys.META_VERSION] = version
    text = json.dumps(outer).encode()
    content = len(text).to_bytes(START, "little") + text + data
    refuse(tmp_path, content, "upgrade dwf-optim")


def test_foreign_safetensors_are_not_called_damaged(tmp_path):
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(3)}, tmp_path / "hostile.dwf")
    refuse(tmp_path, (tmp_path / "hostile.dwf").read_bytes(), "no file of this package")


def test_every_byte_that_counts_is_checked(files, tmp_path):
    """A changed byte is refused, or changes nothing."""
    content = files["mlp"]
    (tmp_path / "good.dwf").write_bytes(content)
    expected = inference.load_state(tmp_path / "good.dwf")
    path = tmp_path / "changed.dwf"
    for place in range(0, len(content), 7):
        changed = bytearray(content)
        changed[place] ^= 0x10
        path.write_bytes(changed)
        try:
            found = inference.load_state(path)
        except ValueError:
            continue
        assert all(torch.equal(found[name], expected[name]) for name in expected), place


def test_weights_alone_are_no_model(tmp_path):
    inference.save_state(tmp_path / "state.dwf", {"weight": torch.zeros(3, 3)})
    with pytest.raises(ValueError, match=r"state\.dwf cannot be loaded: .*use inference\.load_state"):
        inference.load(tmp_path / "state.dwf")
