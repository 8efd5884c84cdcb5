"""What does factorized training cost in time and memory? From the benchmarks that measured it."""

from __future__ import annotations

from typing import Any

from benchmarks import figures
from benchmarks.analyses.analysis import Runs
from benchmarks.analyses.runs import Config
from benchmarks.records import CONFIG, RESULT, RESULTS, Records, table

DEPTHS = (2, 3, 4)
WAYS = {"parametrize": figures.DENSE, "full": figures.SPARSE, "tied": "#009e73"}


def configurations() -> list[Config]:
    """List no runs: times need a machine at rest."""
    return []


def times() -> dict[tuple[str, int], dict[str, float]]:
    """Return the time of an iteration over the dense one's, by model and depth, on one thread."""
    rows = Records(RESULTS / "iteration.jsonl").rows
    return {
        (row[CONFIG]["model"], row[CONFIG]["depth"]): {
            "dense, ms": row[RESULT]["dense"]["ms"],
            **{way: row[RESULT][way]["ratio"] for way in WAYS},
        }
        for row in rows
        if row[CONFIG]["threads"] == 1
    }


def page(runs: Runs) -> str:
    """Write both tables."""
    iterations = [
        [model, str(depth), f"{found['dense, ms']:.2f}", *(f"{found[way]:.2f}" for way in WAYS)]
        for (model, depth), found in times().items()
    ]
    peaks = [
        [
            *(row[CONFIG][key] for key in ("storage", "path")),
            *(f"{row[RESULT][when]['resident']:.1f}" for when in ("start", "steady")),
        ]
        for row in Records(RESULTS / "step_memory.jsonl").rows
    ]
    return f"""# Time and memory

Measured by `benchmarks.iteration` and `benchmarks.step_memory`; the pages of iterations and steps have
more. Time: forward, backward and step on one thread, over those of dense training with
`torch.optim.SGD`, fused. "parametrize" factorizes by `torch.nn.utils.parametrize`; "full" and "tied" are
`DWFOptimizer` with that storage.

![time of an iteration over the dense one's](cost.png)

{table(["model", "depth", "dense, ms", *WAYS], iterations)}
Memory: bytes a parameter beyond weights and gradients, resident, at the peak of the first steps and of
those after them; ResNet-18's tensors, depth 3, SGD with momentum.

{table(["storage", "path", "first steps", "later"], peaks)}"""


def draw(runs: Runs) -> Any:
    """Draw the ratios as bars, a panel a model."""
    found = times()
    models = list(dict.fromkeys(model for model, _ in found))
    figure, axes = figures.panels(1, len(models), figsize=(10, 3.2), sharey=True, squeeze=False)
    for model, axis in zip(models, axes[0], strict=True):
        for place, (way, colour) in enumerate(WAYS.items()):
            heights = [found[model, depth][way] for depth in DEPTHS]
            axis.bar([d + 0.25 * (place - 1) for d in DEPTHS], heights, 0.23, color=colour, label=way)
        axis.axhline(1, color=figures.INK, lw=1)
        axis.set(title=model, xlabel="depth", xticks=DEPTHS)
    axes[0, 0].set_ylabel("time over dense")
    axes[0, 1].legend()
    return figure
