"""Hugging Face Trainer: a sparse tiny BERT reads scikit-learn's digits as 16 tokens.

Run as ``python train_with_transformers.py``; nothing is downloaded. What differs from a dense run is
marked with "DWF".
"""

from __future__ import annotations

import argparse
import tempfile

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed

from dwf_optim import DWFOptimizer, param_groups, sparsify


def tiny_bert() -> nn.Module:
    config = BertConfig(
        vocab_size=16,
        max_position_embeddings=16,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        num_labels=10,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.1,  # BERT's own 0.02 is for wide layers
    )
    return BertForSequenceClassification(config)


def load_tokens() -> list[dict[str, Tensor]]:
    """Return samples; a token is half a row of an image: four pixels, bright or dark."""
    pixels, digits = load_digits(return_X_y=True)
    bright = torch.tensor(pixels >= 8).long().view(-1, 16, 4)
    tokens = (bright * torch.tensor([8, 4, 2, 1])).sum(2)
    return [{"input_ids": t, "labels": d} for t, d in zip(tokens, torch.tensor(digits), strict=True)]


@torch.no_grad()
def accuracy(model: nn.Module, samples: list[dict[str, Tensor]]) -> float:
    model.eval()
    tokens, digits = (torch.stack([s[key] for s in samples]) for key in ("input_ids", "labels"))
    return float((model(input_ids=tokens).logits.argmax(1) == digits).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--max-steps", type=int, default=400)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--penalty", type=float, default=2e-4)
    parser.add_argument("--sparsity", type=float, default=0.85)
    options = parser.parse_args()

    set_seed(0)
    train, test = train_test_split(load_tokens(), test_size=360, random_state=0)
    model = tiny_bert()
    # DWF: was torch.optim.AdamW(model.parameters(), lr=options.lr). Embeddings and norms stay dense.
    optimizer = DWFOptimizer(
        param_groups(model, penalty=options.penalty), lr=options.lr, base=torch.optim.AdamW
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.max_steps)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            max_steps=options.max_steps,
            per_device_train_batch_size=32,
            max_grad_norm=1.0,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
        )
        pair = optimizer, scheduler
        Trainer(model, arguments, train_dataset=train, optimizers=pair).train()

    # DWF: nearly zero -> exactly zero
    report = sparsify(
        model, optimizer, sparsity=options.sparsity, evaluate=lambda model: accuracy(model, test)
    )
    print(report)
    print(f"test accuracy {report.metric_after:.4f} with {report.sparsity:.2%} zeros")


if __name__ == "__main__":
    main()
