"""What `inference.compact` finds out about units: constants, ties, and who is needed."""
