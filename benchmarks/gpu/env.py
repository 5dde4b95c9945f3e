"""Which machine this is, whether the project imports on it, and what its upper bounds are."""

import importlib
import importlib.metadata as metadata
import pkgutil
import subprocess
import sys

import torch
from common import Results, kernel_rates
from devices import CUDA, DEVICE, device_name


def main():
    results = Results("env", float(sys.argv[2]))
    names = ("torch", "triton", "transformers", "trl", "peft", "accelerate", "bitsandbytes", "datasets", "pyarrow",
             "huggingface_hub", "tokenizers", "numpy", "pandas", "scikit-learn")  # fmt: skip
    results.fact("versions", {name: version(name) for name in names})
    results.fact("python", sys.version.split()[0])
    results.fact("device", device_name())
    if CUDA:
        query = ["nvidia-smi", "--query-gpu=driver_version,clocks.sm,power.limit", "--format=csv,noheader"]
        results.fact(
            "driver, clock, power limit", subprocess.run(query, capture_output=True, text=True).stdout.strip()
        )
    results.fact("tf32", f"matmul {torch.backends.cuda.matmul.allow_tf32}, cudnn {torch.backends.cudnn.allow_tf32}")
    with results.row("import lmsys_trl and the recipes") as row:
        row["modules"] = import_everything()
    with results.row("upper bounds") as row:
        row["bf16 TFLOP/s"], row["copy TB/s"] = kernel_rates()
    with results.row("nf4 of bitsandbytes") as row:
        row["relative error"] = error_of_nf4()
    with results.row("flex_attention with a cap, head of 256, against the formula") as row:
        row |= check_flex_attention()
    with results.row("sdpa under a mask of padding, backward, with cuDNN's and without") as row:
        row |= check_masked_attention()
    for name in ("flash_attn", "kernels", "flash_attn_interface"):
        results.fact(f"has {name}", version(name))


def import_everything() -> int:
    """Import all modules of the package, and the recipes, which import none of them before they run."""
    import lmsys_trl

    names = [module.name for module in pkgutil.walk_packages(lmsys_trl.__path__, "lmsys_trl.")]
    names += ["predict", "prepare", "sft", "validate"]
    for name in names:
        importlib.import_module(name)
    return len(names)


def error_of_nf4() -> float:
    """The relative error of a product with a random matrix in 4 bits."""
    import bitsandbytes as bnb

    layer = bnb.nn.Linear4bit(3584, 3584, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4")
    weight = layer.weight.detach().clone()
    layer = layer.to(DEVICE)
    x = torch.randn(64, 3584, device=DEVICE, dtype=torch.bfloat16)
    exact = x.float() @ weight.float().to(DEVICE).T
    return ((layer(x).float() - exact).norm() / exact.norm()).item()


def check_flex_attention() -> dict:
    """Attention as in gemma-2, with its cap on the scores, by flex_attention and by the formula."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    length = 512
    q = torch.randn(1, 16, length, 256, device=DEVICE, dtype=torch.bfloat16, requires_grad=CUDA)
    k, v = (torch.randn(1, 8, length, 256, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    mask = create_block_mask(lambda b, h, i, j: i >= j, None, None, length, length, device=DEVICE)
    attend = torch.compile(flex_attention) if CUDA else flex_attention

    def capped(score, b, h, i, j):
        return 50 * torch.tanh(score / 50)

    out = attend(q, k, v, score_mod=capped, block_mask=mask, enable_gqa=True, scale=1 / 16)
    scores = q.float() @ k.float().repeat_interleave(2, 1).transpose(2, 3) / 16
    scores = 50 * torch.tanh(scores / 50)
    scores = scores.masked_fill(torch.ones(length, length, device=DEVICE).tril() == 0, -torch.inf)
    exact = scores.softmax(-1) @ v.float().repeat_interleave(2, 1)
    row = {"relative error": ((out.float() - exact).norm() / exact.norm()).item()}
    if CUDA:
        out.float().square().mean().backward()
        row["backward is finite"] = bool(q.grad.isfinite().all())
    return row


def check_masked_attention() -> dict:
    """Whether gradients are finite where scores are far below zero, at 64 tokens over a multiple of 128."""
    length, head = 704, 64
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 1, length, head, device=DEVICE, dtype=torch.bfloat16) * 0.1 for _ in range(3))
    q[..., 0], k[..., 0] = 1, -120 * head**0.5
    q.requires_grad_()
    mask = torch.ones(length, length, dtype=torch.bool, device=DEVICE).tril()[None, None]
    found = {}
    for name, with_cudnn in (("with", True), ("without", False)):
        torch.backends.cuda.enable_cudnn_sdp(with_cudnn)
        q.grad = None
        torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask).float().square().sum().backward()
        found[f"finite {name}"] = bool(q.grad.isfinite().all())
    return found


def version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
