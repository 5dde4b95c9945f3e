"""The GPUs that people rent, as their makers describe them. The only table of such figures in the project."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import NamedTuple

from ..errors import raise_problems

DATA_CENTER = "https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center"
A100 = f"{DATA_CENTER}/a100/pdf/nvidia-a100-datasheet-us-nvidia-1758950-r4-web.pdf"
A40 = "https://images.nvidia.com/content/Solutions/data-center/a40/nvidia-a40-datasheet.pdf"
ADA = "https://images.nvidia.com/aem-dam/Solutions/geforce/ada/nvidia-ada-gpu-architecture.pdf"
HOPPER = "https://resources.nvidia.com/en-us-tensor-core/nvidia-tensor-core-gpu-datasheet"
# The fraction of its peak that training reaches, and the fraction of its memory that is left free, unless a user says
# otherwise. docs/planning.md says what published runs reached.
UTILISATION, HEADROOM = 0.4, 0.1


class Gpu(NamedTuple):
    """
    A GPU.

    Args:
        name (`str`): As users give it.
        mebibytes (`int`): Its memory as `nvidia-smi` shows it, which is less than its name says where ECC takes some.
        tflops (`float`): The dense peak of its tensor cores in 16 bits with sums in float32, in TFLOP/s. Data sheets
            that print a rate "with sparsity" print twice this.
        bandwidth (`float`): Of its memory, in GB/s.
        has_bfloat16 (`bool`): Whether its tensor cores compute in bfloat16, or in float16 alone.
        source (`str`): The maker's page with rate and bandwidth.
    """

    name: str
    mebibytes: int
    tflops: float
    bandwidth: float
    has_bfloat16: bool
    source: str

    @property
    def gib(self) -> float:
        return self.mebibytes / 1024

    def available(self, headroom: float = HEADROOM) -> float:
        """The bytes that a plan may fill."""
        return self.mebibytes * 2**20 * (1 - headroom)


GPUS = (
    Gpu("T4", 15360, 65.0, 320, False, f"{DATA_CENTER}/tesla-t4/t4-tensor-core-datasheet-951643.pdf"),
    Gpu("L4", 23034, 121.0, 300, True, "https://www.nvidia.com/en-us/data-center/l4/"),
    Gpu("A10", 23028, 125.0, 600, True, f"{DATA_CENTER}/a10/pdf/a10-datasheet.pdf"),
    Gpu("4090", 24564, 165.2, 1008, True, ADA),
    Gpu("A100-40", 40960, 312.0, 1555, True, A100),
    Gpu("A40", 46068, 149.7, 696, True, A40),
    Gpu("A100-80", 81920, 312.0, 2039, True, A100),
    Gpu("H100", 81559, 989.4, 3350, True, HOPPER),
    Gpu("H200", 143771, 989.4, 4800, True, "https://www.nvidia.com/en-us/data-center/h200/"),
)


def find_gpus(names: Sequence[str] | None = None) -> list[Gpu]:
    """
    GPUs by their names.

    Args:
        names (`Sequence[str]`, *optional*): Such as "A100-80", in any case. Default: all.

    Raises:
        UserError: If there is none of a name.
    """
    known = {gpu.name.lower(): gpu for gpu in GPUS}
    problems = []
    for name in names or ():
        if name.lower() not in known:
            nearest = get_close_matches(name.lower(), known, n=1)
            hint = (
                f"Did you mean {known[nearest[0]].name}?"
                if nearest
                else f"Known are {', '.join(g.name for g in GPUS)}"
            )
            problems.append(f"gpus: there is no {name}. {hint}")
    raise_problems(problems)
    return [known[name.lower()] for name in names] if names else list(GPUS)
