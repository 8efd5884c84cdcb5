"""Gradual magnitude pruning with the cubic schedule."""

from __future__ import annotations

from benchmarks.frontier.method import Method

# Parts of the run between which the sparsity rises, and how often it does so.
BEGIN, END, UPDATES = 0.1, 0.7, 100


def cubic(done: float, sparsity: float) -> float:
    """Return the sparsity at a part of the ramp: ``s (1 - (1 - t)^3)``, from 0 to ``s``."""
    return sparsity * (1 - (1 - min(max(done, 0.0), 1.0)) ** 3)


class GradualMagnitude(Method):
    """Weights go by magnitude while the network trains, many early and few late."""

    source = "Zhu and Gupta, 2017, arXiv 1710.01878"
    deviation = "one threshold over all layers instead of one each; between 10 % and 70 % of the steps"
    serves_all = False

    def after_step(self, step: int) -> None:
        steps = self.settings.steps
        end = round(END * steps)
        every = max(1, round((END - BEGIN) * steps / UPDATES))
        # Once more at the end of the ramp, wherever the last of the even ones falls.
        if step == end or (step % every == 0 and BEGIN * steps <= step < end):
            done = 1.0 if step == end else (step / steps - BEGIN) / (END - BEGIN)
            # Pruned weights are zero, so they are among the smallest again.
            self.cut(cubic(done, self.at_start()))
        super().after_step(step)
