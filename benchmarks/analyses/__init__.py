"""The paper's analyses, on LeNet-300-100 and MNIST: what init, rate and depth do, and what happens when.

``python -m benchmarks.analyses run`` trains what is missing of the runs that they share, ``report``
writes the pages from what there is. `runs.py` has the runs, and every analysis one file.
"""
