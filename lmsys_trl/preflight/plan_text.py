"""A plan as text: for the terminal, and a line of it for check."""

from collections.abc import Sequence

from ..terminal import aligned
from .cost import Work
from .gpus import find_gpus
from .memory import GIB, Batch, Memory
from .plan import Plan, Verdict

PARTS = {
    "weights": "weights as stored",
    "adapter": "adapter and head",
    "gradients": "their gradients",
    "optimizer": "the optimizer's state",
    "activations": "activations, by tokens",
    "scores": "attention, by pairs of tokens",
    "logits": "logits of the answers",
    "workspace": "workspace of a layer",
    "communication": "buffers between devices",
    "context": "CUDA context",
}


def render_plan(plan: Plan, headroom: float, utilisation: float) -> str:
    """A plan as lines for the terminal."""
    devices, work, later = plan.setup.processes, plan.work, plan.prediction_work
    split = {"none": "", "ddp": " (DDP)", "fsdp": " (FSDP)"}.get(plan.setup.sharding, f" ({plan.setup.sharding})")
    lines = [
        f"on {devices} device{'s' * (devices > 1)}{split}, attention {plan.shape.attention}, "
        f"{'with' if plan.setup.checkpointing else 'without'} checkpointing",
        "",
        f"{'memory of a device at its peak, GiB':38}{'training':>10}{'prediction':>12}",
        f"{'  largest batch, examples x tokens':38}{_size(plan.batch):>10}{_size(plan.prediction_batch):>12}",
        *_memory_lines(plan.memory, plan.prediction_memory),
        "",
        f"training: {work.examples:,} examples, {work.tokens:,} tokens, {work.steps:,} steps, {_flops(work)}",
    ]
    if later:
        lines.append(f"prediction: {later.examples:,} examples, {later.tokens:,} tokens, {_flops(later)}")
    if plan.verdicts:
        assumed = f"hours at {utilisation:.0%} of the peak; {headroom:.0%} of a GPU's memory is left free"
        lines += ["", assumed, *_table(plan.verdicts)]
    return "\n".join(line.rstrip() for line in lines)


def summarize(memory: Memory, batch: Batch) -> str:
    """The memory of a recipe and the GPUs that it fits, in a line."""
    fitting = [gpu.name for gpu in find_gpus() if memory.total <= gpu.available()]
    examples = f"{batch.examples} example{'s' * (batch.examples > 1)} of {batch.length:,} tokens"
    where = f"fits {', '.join(fitting)}" if fitting else "more than any GPU that plan knows has"
    return f"memory of a GPU: {memory.total / GIB:.1f} GiB at {examples} (estimated); {where}"


def _flops(work: Work) -> str:
    return f"{work.flops / 1e15:,.1f} PFLOP" if work.flops >= 1e14 else f"{work.flops / 1e12:,.1f} TFLOP"


def _size(batch: Batch) -> str:
    return f"{batch.examples} x {batch.length:,}"


def _memory_lines(training: Memory, prediction: Memory) -> list[str]:
    lines = []
    for name, title in PARTS.items():
        values = [getattr(memory, name) / GIB for memory in (training, prediction)]
        if any(values):
            lines.append(f"  {title:36}{_gib(values[0]):>10}{_gib(values[1]):>12}")
    return [*lines, f"  {'total':36}{_gib(training.total / GIB):>10}{_gib(prediction.total / GIB):>12}"]


def _gib(value: float) -> str:
    return "" if not value else f"{value:.2f}" if value >= 0.005 else "<0.01"


def _table(verdicts: Sequence[Verdict]) -> list[str]:
    with_prediction = any(verdict.prediction_hours is not None for verdict in verdicts)
    with_cost = any(verdict.cost is not None for verdict in verdicts)
    header = ["GPU", "GiB", "trains", "predicts", "hours"]
    header += (
        ["cost"] * with_cost + ["hours to predict"] * with_prediction + ["cost"] * (with_cost and with_prediction)
    )
    rows = [header]
    for verdict in verdicts:
        row = [verdict.gpu.name, f"{verdict.gpu.gib:.1f}", _yes(verdict.trains), _yes(verdict.predicts)]
        row.append(_hours(verdict.hours))
        row += [_cost(verdict.cost)] * with_cost + [_hours(verdict.prediction_hours)] * with_prediction
        row += [_cost(verdict.prediction_cost)] * (with_cost and with_prediction)
        rows.append(row)
    lines = [f"  {line}" for line in aligned(rows, str.rjust)]
    gpus: dict[str, list[str]] = {}
    for verdict in verdicts:
        if not verdict.trains or verdict.note:
            change = "; ".join(filter(None, [_change(verdict), verdict.note]))
            gpus.setdefault(change, []).append(verdict.gpu.name)
    changes = [f"  {', '.join(names)}: {change}" for change, names in gpus.items()]
    return [*lines, *(["", "the smallest change with which training fits, and notes:", *changes] if changes else [])]


def _change(verdict: Verdict) -> str:
    if verdict.trains:
        return "fits"
    return verdict.change or "nothing of what plan knows is enough"


def _yes(fits: bool) -> str:
    return "yes" if fits else "no"


def _hours(hours: float | None) -> str:
    if hours is None:
        return ""
    return f"{hours:,.1f}" if hours >= 10 else f"{hours:.2f}" if hours >= 0.005 else "<0.01"


def _cost(cost: float | None) -> str:
    return "" if cost is None else f"{cost:,.2f}"
