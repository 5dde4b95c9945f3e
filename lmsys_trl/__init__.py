"""Fine-tune an instruction model so that its answer letter is a calibrated probability of a human vote."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .encoding.examples import encode_battle
    from .judging.judge import Judge

__all__ = ["Judge", "encode_battle"]


def __getattr__(name: str):
    # Loaded on use: whoever only reads votes need not wait for torch.
    if name == "Judge":
        from .judging.judge import Judge

        return Judge
    if name == "encode_battle":
        from .encoding.examples import encode_battle

        return encode_battle
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
