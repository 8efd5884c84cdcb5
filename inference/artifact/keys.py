"""The file format: names and limits.

A file is one in safetensors' format. Its metadata has the four texts named here; the last two are the
JSON header and that header's checksum. The header has:

- ``tensors``: by name ``{shape, dtype, encoding, checksum}``, and ``constant`` where it is no entry of
  the model's state_dict. "dense" tensors are one array of the same name; "csr" ones are three, see
  `inference.artifact.codec`.
- ``tied``: names in the state_dict that are another name's tensor.
- ``provenance``: what made the file.
- ``graph``, ``inputs``, ``plan``: of a compiled model; missing where the file holds weights alone.

A change that readers of `VERSION` would misread makes a new version, and a line in
`inference.artifact.container.READERS` that reads the older one.
"""

from __future__ import annotations

import torch

FORMAT = "dwf-sparse"
VERSION = 1

# Metadata
META_FORMAT = "format"
META_VERSION = "version"
META_HEADER = "header"
META_CHECKSUM = "checksum"

# Header
TENSORS = "tensors"
TIED = "tied"
PROVENANCE = "provenance"
GRAPH = "graph"
INPUTS = "inputs"
PLAN = "plan"

# A tensor
SHAPE = "shape"
DTYPE = "dtype"
ENCODING = "encoding"
CHECKSUM = "checksum"
CONSTANT = "constant"
DENSE = "dense"
CSR = "csr"

# Arrays of a tensor as CSR: the tensor's name and one of these
VALUES = ":values"
GAPS = ":gaps"
COUNTS = ":counts"

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
        torch.bool,
        torch.uint8,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.int64,
    )
}

# What a caller of `load` allows if nothing else is said: dense bytes of all weights, and of all values
# between layers for one example.
MAX_BYTES = 2**32
# No network comes near these; a file that does would only keep the machine busy.
MAX_DIMS = 16
MAX_SIZE = 2**40
MAX_NODES = 10_000
MAX_CHOICES = 64
