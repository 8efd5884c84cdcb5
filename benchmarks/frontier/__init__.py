"""Accuracy against compression: every method on the same data, order and budget.

``python -m benchmarks.frontier run EXPERIMENT`` trains what is missing, ``report EXPERIMENT`` writes
tables and figure from what there is. `experiments.py` has the experiments, `methods/` one file a method.
"""
