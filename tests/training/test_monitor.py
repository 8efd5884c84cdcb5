"""The monitor records what is there, changes nothing, and writes what it can read again."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from dwf_optim.monitor import Monitor, Record, phases, tensorboard
from tests.training.common import network, nonzero, optimizer_of, train


def test_a_watched_run_is_the_same_run() -> None:
    plain, watched = network(), network()
    train(plain, optimizer_of(plain), 30)
    optimizer = optimizer_of(watched)
    monitor = Monitor(optimizer, every=1)
    train(watched, optimizer, 30)
    assert [record.step for record in monitor.records] == list(range(1, 31))
    for p, q in zip(plain.parameters(), watched.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("storage", ["full", "tied"])
def test_the_numbers_are_those_of_the_definitions(depth: int, storage: str) -> None:
    model = network()
    options = {} if storage == "full" else {"storage": "tied", "depth": 3}
    optimizer = optimizer_of(model, **{"depth": depth, "penalty": 1e-3, **options})
    depth = optimizer.param_groups[0]["depth"]
    monitor = Monitor(optimizer, every=40, thresholds=[1e-2, 1e-4])
    train(model, optimizer, 40)
    (record,) = monitor.records
    assert record.thresholds == (1e-4, 1e-2)
    assert record.penalties == (1e-3,)
    assert record.lrs == (optimizer.param_groups[0]["lr"],)
    assert len(record.layers) == 2
    for p, layer in zip(optimizer.factorized(), record.layers.values(), strict=True):
        factors = [f.double() for f in optimizer.factors(p)]
        w = p.detach().double()
        squares = sum(float(f.square().sum()) for f in factors)
        quasi = float(w.abs().pow(2 / depth).sum())
        assert layer.total == p.numel()
        assert layer.zeros == tuple(int((p.detach().abs() <= t).sum()) for t in (1e-4, 1e-2))
        # Sums of thousands of positive float32 numbers: eps times their count bounds the relative error.
        bound = p.numel() * 2.0**-23
        assert layer.weight_norm == pytest.approx(float(w.norm()), rel=bound)
        assert layer.factor_norm == pytest.approx(math.sqrt(squares), rel=bound)
        assert layer.quasi_norm == pytest.approx(quasi, rel=bound)
        assert layer.misalignment == pytest.approx(squares / depth - quasi, abs=2 * bound * squares)
    small = nonzero(optimizer) - nonzero(optimizer, 1e-2)
    total = sum(layer.total for layer in record.layers.values())
    assert record.sparsity() == pytest.approx(small / total)
    assert record.compression_ratio() == pytest.approx(total / (total - small))


def test_what_is_logged_goes_with_the_next_record() -> None:
    model = network()
    optimizer = optimizer_of(model)
    monitor = Monitor(optimizer, every=10)
    monitor.log(accuracy=0.5)
    losses: list[float] = []

    def note(loss: float) -> None:
        losses.append(loss)
        monitor.log(loss=loss)

    train(model, optimizer, 30, after_step=note)
    # Step 10 was measured before its own loss was logged.
    assert monitor.records[0].values == {"accuracy": 0.5, "loss": losses[8]}
    assert monitor.records[1].values == {"loss": losses[18]}


def test_a_file_is_continued_and_a_line_that_was_cut_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    model = network()
    optimizer = optimizer_of(model)
    with Monitor(optimizer, every=5, path=path) as monitor:
        train(model, optimizer, 10)
    train(model, optimizer, 12)  # closed: not watched
    with path.open("a") as file:
        file.write('{"step": 15, "thre')
    again = Monitor(optimizer, every=5, path=path)
    assert again.records == monitor.records
    assert again.steps == 10
    train(model, optimizer, 5)
    assert [record.step for record in Monitor(optimizer, path=path).records] == [5, 10, 15]


def test_numbers_that_json_lacks_are_written_as_none(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    model = network()
    monitor = Monitor(optimizer_of(model), path=path)
    monitor.log(loss=math.nan)
    monitor.record()
    assert json.loads(path.read_text())["values"] == {"loss": None}


def test_a_run_that_diverged_is_read_and_drawn_again(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    model = network()
    optimizer = optimizer_of(model)
    monitor = Monitor(optimizer, every=1, path=path)
    for value in (0.0, math.nan):
        model[0].weight.grad = torch.full_like(model[0].weight, value)
        monitor.log(loss=value)
        optimizer.step()
    again = Monitor(optimizer, path=path)
    assert again.records[0] == monitor.records[0]
    written, read = monitor.records[1], again.records[1]
    assert math.isnan(written.misalignment)
    assert math.isnan(read.misalignment)
    assert math.isnan(read.values["loss"])
    assert again.plot().axes


def test_looking_makes_no_factors() -> None:
    optimizer = optimizer_of(network())
    assert Monitor(optimizer).record().layers == {}
    assert not optimizer.state


def test_a_base_that_keeps_nothing_is_watched_too() -> None:
    model = network()
    optimizer = optimizer_of(model, storage="ephemeral", momentum=0.0)
    monitor = Monitor(optimizer, every=5)
    train(model, optimizer, 5)
    assert [layer.total for layer in monitor.records[0].layers.values()] == [6400, 1000]


def test_large_layers_are_counted_to_one_weight() -> None:
    """Over several pieces, and an odd rest."""
    model = torch.nn.Linear(331, 307)
    optimizer = optimizer_of(model)
    model(torch.ones(1, 331)).sum().backward()
    optimizer.step()
    layer = Monitor(optimizer, thresholds=[0.03]).record().layers["parameter number 0"]
    assert layer.zeros == (int((model.weight.abs() <= 0.03).sum()),)


def test_looking_does_not_take_over_what_was_written_from_outside() -> None:
    model = network()
    optimizer = optimizer_of(model)
    train(model, optimizer, 3)
    before = [f.clone() for f in optimizer.factors(model[0].weight)]
    with torch.no_grad():
        model[0].weight.mul_(2)
    Monitor(optimizer).record()
    state = optimizer.state[model[0].weight]
    kept = [value for value in state.values() if isinstance(value, torch.Tensor)]
    assert all(any(torch.equal(factor, value) for value in kept) for factor in before)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text('{"a": 1}\n')
    with pytest.raises(ValueError, match="name another file"):
        Monitor(optimizer_of(network()), path=path)


@pytest.mark.parametrize(
    ("options", "says"),
    [({"every": 0}, "every must be at least 1"), ({"thresholds": []}, "one or more numbers")],
)
def test_bad_options_are_named(options: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Monitor(optimizer_of(network()), **options)


def test_phases_follow_their_rule() -> None:
    assert phases([]) == []
    assert phases([0.0, 0.0, 0.0]) == ["dense"] * 3
    assert phases([0.2, 0.2, 0.25, 0.7, 0.95, 0.93, 1.0]) == [
        *["dense"] * 3,
        "transition",
        *["sparse"] * 3,
    ]
    # Nine tenths that do not last are still transition.
    assert phases([0.0, 0.95, 0.5, 1.0]) == ["dense", "transition", "transition", "sparse"]


def test_the_figure_draws_a_run_and_a_single_record(tmp_path: Path) -> None:
    model = network()
    optimizer = optimizer_of(model)
    monitor = Monitor(optimizer, every=10)
    with pytest.raises(ValueError, match="no records yet"):
        monitor.plot()
    train(model, optimizer, 10)
    monitor.plot().savefig(tmp_path / "one.png")
    monitor.log(loss=1.0)
    train(model, optimizer, 30)
    figure = monitor.plot()
    figure.savefig(tmp_path / "run.png")
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert "Sparsity of each layer" in titles


def test_tensorboard_gets_every_number() -> None:
    class Writer:
        """What a SummaryWriter is asked: its method is all that counts here."""

        def __init__(self) -> None:
            self.seen: dict[str, float] = {}

        def add_scalar(self, name: str, value: float, step: int) -> None:
            assert step == 10
            self.seen[name] = value

    writer = Writer()
    model = network()
    optimizer = optimizer_of(model)
    monitor = Monitor(optimizer, every=10, sinks=[tensorboard(writer)])
    monitor.log(loss=0.5)
    train(model, optimizer, 10)
    (record,) = monitor.records
    assert writer.seen["loss"] == 0.5
    assert writer.seen["dwf/penalty/group 0"] == optimizer.param_groups[0]["penalty"]
    assert writer.seen["dwf/misalignment"] == record.misalignment
    assert {f"dwf/sparsity/{name}" for name in record.layers} < writer.seen.keys()


def test_records_survive_their_dictionaries() -> None:
    model = network()
    optimizer = optimizer_of(model)
    monitor = Monitor(optimizer, every=10)
    train(model, optimizer, 10)
    (record,) = monitor.records
    assert Record.from_dict(json.loads(json.dumps(record.to_dict()))) == record
    with pytest.raises(ValueError, match="no record of a monitor"):
        Record.from_dict({"step": 1})
