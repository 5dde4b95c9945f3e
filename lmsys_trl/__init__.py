"""Fine-tune an instruction model so that its answer letter is a calibrated forecast of people's votes."""

from .judge import Judge
from .rows import encode_battle

__all__ = ["Judge", "encode_battle"]
