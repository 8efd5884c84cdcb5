"""How `inference.capture` reads what `torch.export` made of a model."""
