"""The phases of a run: dense, transition, sparse."""

from __future__ import annotations

from collections.abc import Sequence

PHASES = ("dense", "transition", "sparse")
# Parts of the zeros that a run ends with: below the first it is dense, from the second on sparse.
ONSET, SETTLED = 0.1, 0.9


def phases(sparsities: Sequence[float]) -> list[str]:
    """Name the phase of every record.

    Weights stay for a while, then many of them come near zero at once, then little changes (Kolb et al.,
    2025, section 5). The rule: a run is *dense* until a tenth of the zeros it ends with are there,
    *sparse* once nine tenths of them are there for good, and in *transition* in between. Zeros that are
    there from the beginning count for neither.

    Args:
        sparsities: Fraction of zeros at each record.

    Returns:
        "dense", "transition" or "sparse" for each; all "dense" if no zeros were added.
    """
    if not sparsities:
        return []
    start, end = sparsities[0], sparsities[-1]
    gained = [(s - start) / (end - start) if end > start else 0.0 for s in sparsities]
    onset = next((i for i, part in enumerate(gained) if part >= ONSET), len(gained))
    below = [i for i, part in enumerate(gained) if part < SETTLED]
    settled = below[-1] + 1 if below else 0
    return [
        PHASES[0] if i < onset else PHASES[1] if i < settled else PHASES[2] for i in range(len(gained))
    ]
