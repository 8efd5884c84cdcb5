"""Text that ships with Python, character by character, and a transformer small enough for one core."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.data import Data, Split

CONTEXT = 64
# How much of the text is held out for validation, and for the test.
HELD_OUT = 0.1


def load_text() -> tuple[Data, int]:
    """Load the help topics of this Python, cut into windows of `CONTEXT` characters.

    The text is cut in three: 80 % to train, then 10 % to validate, then 10 % to test. Characters that
    the training part lacks are one and the same symbol. Targets are the inputs, one character on.

    Returns:
        The data (inputs and targets ``[windows, CONTEXT]``, int64), and how many symbols there are.
    """
    from pydoc_data.topics import topics

    text = "\n\n".join(f"{name}\n{topics[name]}" for name in sorted(topics))
    held = int(HELD_OUT * len(text))
    parts = text[: -2 * held], text[-2 * held : -held], text[-held:]
    symbols = {character: number for number, character in enumerate(sorted(set(parts[0])))}
    unknown = len(symbols)
    splits = [_windows([symbols.get(c, unknown) for c in part]) for part in parts]
    return Data(*splits), unknown + 1


def _windows(codes: list[int]) -> Split:
    count = (len(codes) - 1) // CONTEXT
    tokens = torch.tensor(codes[: count * CONTEXT + 1])
    return Split(tokens[:-1].view(count, CONTEXT), tokens[1:].view(count, CONTEXT))


class CharTransformer(nn.Module):
    """Embeddings of characters and places, encoder layers that look back only, and a linear head."""

    def __init__(self, symbols: int, *, width: int = 64, heads: int = 4, layers: int = 2) -> None:
        super().__init__()
        self.characters = nn.Embedding(symbols, width)
        self.places = nn.Embedding(CONTEXT, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, heads, 4 * width, dropout=0.0, batch_first=True, norm_first=True
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, symbols)
        mask = torch.full((CONTEXT, CONTEXT), -torch.inf).triu(1)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``[windows, CONTEXT]`` symbols to logits of the next, ``[windows, symbols, CONTEXT]``."""
        x = self.characters(tokens) + self.places.weight
        for layer in self.layers:
            x = layer(x, src_mask=self.mask)
        logits: Tensor = self.head(self.norm(x))
        return logits.transpose(1, 2)


def char_transformer(symbols: int, seed: int) -> CharTransformer:
    """Build the transformer: 2 layers of width 64.

    Args:
        symbols: From `load_text`.
        seed: Of the initial weights; torch's own random stream is left as it was.

    Returns:
        The network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CharTransformer(symbols)
