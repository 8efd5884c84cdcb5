"""Lightning: a sparse classifier of scikit-learn's digits.

Run as ``python train_with_lightning.py``. What differs from a dense run is marked with "DWF".
"""

from __future__ import annotations

import argparse

import lightning
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from dwf_optim import DWFOptimizer, sparsify


class Classifier(lightning.LightningModule):
    """Two hidden layers on 8x8 pixels."""

    def __init__(self, lr: float, penalty: float) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.network = nn.Sequential(
            nn.Linear(64, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)
        )

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network(pixels)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        pixels, digits = batch
        return F.cross_entropy(self(pixels), digits)

    def configure_optimizers(self):
        lr, penalty = self.hparams.lr, self.hparams.penalty
        # DWF: was torch.optim.SGD(self.parameters(), lr=lr, momentum=0.9)
        optimizer = DWFOptimizer(self.parameters(), lr=lr, momentum=0.9, penalty=penalty)
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


@torch.no_grad()
def accuracy(model: nn.Module, pixels: Tensor, digits: Tensor) -> float:
    model.eval()
    return float((model(pixels).argmax(1) == digits).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--penalty", type=float, default=5e-4)
    parser.add_argument("--sparsity", type=float, default=0.95)
    options = parser.parse_args()

    lightning.seed_everything(0, verbose=False)
    pixels, digits = load_digits(return_X_y=True)
    tensors = torch.tensor((pixels - 5) / 6, dtype=torch.float32), torch.tensor(digits)
    train, test = train_test_split(TensorDataset(*tensors), test_size=360, random_state=0)
    loader = DataLoader(train, batch_size=64, shuffle=True)

    model = Classifier(options.lr, options.penalty)
    trainer = lightning.Trainer(
        max_epochs=options.epochs,
        gradient_clip_val=5.0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.fit(model, loader)

    # DWF: nearly zero -> exactly zero
    pixels, digits = map(torch.stack, zip(*test, strict=True))
    report = sparsify(
        model,
        trainer.optimizers[0],
        sparsity=options.sparsity,
        evaluate=lambda model: accuracy(model, pixels, digits),
    )
    print(report)
    print(f"test accuracy {report.metric_after:.4f} with {report.sparsity:.2%} zeros")


if __name__ == "__main__":
    main()
