"""What happens to weights and factors during training: records, phases, a figure."""

from dwf_optim.monitor.monitor import Monitor
from dwf_optim.monitor.phases import PHASES, phases
from dwf_optim.monitor.record import LayerRecord, Record
from dwf_optim.monitor.scalars import scalars, tensorboard

__all__ = ["PHASES", "LayerRecord", "Monitor", "Record", "phases", "scalars", "tensorboard"]
