"""How `inference.shrink` makes a smaller module of a model with dead groups."""
