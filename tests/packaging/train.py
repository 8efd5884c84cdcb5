"""A short training, as a user who has installed the package would run it; saves what came of it.

Arguments: a file to write.
"""

import logging
import sys

import torch
from torch import nn

import dwf_optim
import inference

messages: list[str] = []


class Keep(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        messages.append(f"{record.name}: {record.getMessage()}")


logging.getLogger().addHandler(Keep())
torch.manual_seed(0)
torch.set_num_threads(1)
inputs, targets = torch.randn(64, 20), torch.randn(64, 3)
weights = []
for base, options in (
    (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9}),
    (torch.optim.Adam, {"lr": 0.01}),
):
    model = nn.Sequential(nn.Linear(20, 32), nn.Tanh(), nn.Linear(32, 3))
    optimizer = dwf_optim.DWFOptimizer(model.parameters(), base=base, penalty=1e-3, **options)
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(inputs), targets).backward()
        optimizer.step()
    weights += [p.detach().clone() for p in model.parameters()]
    dwf_optim.sparsify(model, optimizer, sparsity=0.5)
    matrix = inference.to_csr(model[0].weight, backend="torch")
    assert torch.equal(inference.from_csr(matrix), model[0].weight)

try:
    dwf_optim.DWFOptimizer(model.parameters(), lr=0.1, penalty=1e-3, backend="native")
    has_extension = True
except ValueError:
    has_extension = False
files = [dwf_optim.__file__, inference.__file__]
torch.save(
    {"files": files, "has_extension": has_extension, "messages": messages, "weights": weights},
    sys.argv[1],
)
