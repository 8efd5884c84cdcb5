"""How much smaller networks become when whole filters, neurons, inputs and heads are trained to zero.

Against the usual ways to remove them: `python -m benchmarks.structured --help`.
"""
