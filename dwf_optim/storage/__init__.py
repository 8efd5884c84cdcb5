"""How the factors of a weight are kept between steps: one file a way.

To add a way, write a subclass of `Storage` and a line in `STORAGES`. `Gated` is that of weights that
share gates, and is made for each structure (`dwf_optim.structure`).
"""

from __future__ import annotations

from dwf_optim.storage.ephemeral import Ephemeral
from dwf_optim.storage.full import Full
from dwf_optim.storage.gated import Gated
from dwf_optim.storage.mode import Storage
from dwf_optim.storage.tied import Tied

__all__ = ["STORAGES", "Gated", "Storage"]

STORAGES: dict[str, Storage] = {mode.name: mode for mode in (Full(), Tied(), Ephemeral())}
