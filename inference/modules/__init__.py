"""Drop-in modules whose weights are CSR, computed by any of the backends of `inference.formats`.

They fit where a library wants `torch.nn` modules. For speed, `inference.compile` takes whole networks.
"""

from inference.modules.conv2d import SparseConv2d
from inference.modules.linear import SparseLinear
from inference.modules.swap import sparse_modules

__all__ = ["SparseConv2d", "SparseLinear", "sparse_modules"]
