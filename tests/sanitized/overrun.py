"""Let the extension step a weight of which one factor has lost its memory but for 4 numbers."""

import torch
from torch.nn import Parameter

from dwf_optim import DWFOptimizer

p = Parameter(torch.ones(8, 8))
optimizer = DWFOptimizer([p], lr=0.1, penalty=0.0, backend="native")
optimizer.factors(p)[0].untyped_storage().resize_(16)
p.grad = torch.ones(8, 8)
optimizer.step()
