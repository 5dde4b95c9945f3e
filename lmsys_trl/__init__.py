"""Fine-tune an instruction model so that its answer letter is a calibrated forecast of people's votes."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .judge import Judge
    from .rows import encode_battle

__all__ = ["Judge", "encode_battle"]


def __getattr__(name: str):
    # Loaded on use: whoever only reads votes need not wait for torch.
    if name == "Judge":
        from .judge import Judge

        return Judge
    if name == "encode_battle":
        from .rows import encode_battle

        return encode_battle
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
