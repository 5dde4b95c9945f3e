"""
One base model of real shape with random weights: loading as recipes/sft.py loads it, training steps side by side,
prediction side by side, and how exact forecasts are. Time and memory do not depend on what the weights are.
"""

import shutil
import sys
import time
from contextlib import nullcontext
from statistics import median

import numpy as np
import torch
from common import (
    CUDA,
    DEVICE,
    GIB,
    KIT,
    MODELS,
    Results,
    arena_battles,
    build_base,
    flops_per_token,
    free,
    kernel_rates,
    peak,
    reset_peak,
    shape,
    sync,
    timed,
)  # fmt: skip
from datasets import Dataset
from peft import get_peft_model
from sft import JudgeConfig, describe, load_model
from transformers import TrainerCallback
from transformers.trainer_pt_utils import BatchRebalanceSampler
from trl import ModelConfig, SFTConfig, SFTTrainer

from lmsys_trl.batching import lay_end_to_end, pad_left, token_batches
from lmsys_trl.battle import WINNERS
from lmsys_trl.config import parse_config
from lmsys_trl.forecasts import shown_rows
from lmsys_trl.judge import Judge
from lmsys_trl.predictions import PROBABILITIES
from lmsys_trl.prepared import encode
from lmsys_trl.provenance import write_json
from lmsys_trl.rows import load_tokenizer
from lmsys_trl.trainer import JudgeTrainer, TrainingConfig

TINY = "--tiny" in sys.argv
BATTLES, WARM, STEPS = (4, 1, 1) if TINY else (16, 1, 3)  # battles in an optimizer step; steps before and on the clock
RESERVE = {"gemma-2-9b": 100, "llama-3.1-8b": 40, "gemma-2-2b": 35}  # seconds that training leaves to prediction
# What trains, with which attention, in which batches. Most telling first: the last ones fall away when time is short.
TRAINING = {
    "gemma-2-9b": [
        ("recipe", "eager", 1, {}),
        ("trl.SFTTrainer as it comes", "eager", 8, {}),
        ("bare backbone, row by row", "eager", 1, {}),
        ("flex, unpadded", "flex_attention", 4, {}),
        ("recipe, checkpointed", "eager", 1, {"activation_checkpointing": True}),
        ("flex, unpadded, checkpointed", "flex_attention", 16, {"activation_checkpointing": True}),
        ("recipe, 4 rows at once", "eager", 4, {}),
        ("recipe, adapter in float32", "eager", 1, {"float32": True}),
        ("bare backbone, row by row", "flex_attention", 1, {}),
    ],
    "llama-3.1-8b": [
        ("recipe", None, 1, {}),
        ("trl.SFTTrainer as it comes", None, 8, {}),
        ("bare backbone, row by row", None, 1, {}),
        ("recipe, 4 rows at once", None, 4, {}),
        ("flex, unpadded", "flex_attention", 4, {}),
    ],
    "gemma-2-2b": [
        ("recipe", "eager", 1, {}),
        ("trl.SFTTrainer as it comes", "eager", 8, {}),
        ("bare backbone, row by row", "eager", 1, {}),
        ("flex, unpadded", "flex_attention", 4, {}),
        ("flex, unpadded, checkpointed", "flex_attention", 16, {"activation_checkpointing": True}),
    ],
}


class Clock(TrainerCallback):
    """Seconds of each step, with the device awaited at both ends."""

    def __init__(self):
        self.seconds = []

    def on_step_begin(self, args, state, control, **kwargs):
        sync()
        self.began = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        sync()
        self.seconds.append(time.perf_counter() - self.began)


class Case:
    def __init__(self, name: str, tiny: bool, results: Results):
        self.name, self.tiny, self.results = name, tiny, results
        self.facts, self.work = shape(name, tiny), KIT / "work" / name
        shutil.rmtree(self.work, ignore_errors=True)
        self.rates = kernel_rates()
        results.fact("ceilings, TFLOP/s and TB/s", [round(rate, 2) for rate in self.rates])
        with results.row("write random weights") as row:
            self.base = build_base(name, tiny)
            row["GiB"] = sum(file.stat().st_size for file in self.base.iterdir()) / GIB
        self.battles = [battle for battle in arena_battles(tiny) if battle["winner"]]
        self.configs = self.parse()
        self.tokenizer = load_tokenizer(str(self.base), self.configs[0].pad_token)
        self.rows = self.encode(self.configs[2].max_length)
        lengths = sorted(self.rows["length"])
        results.fact(
            "tokens in a row", f"median {median(lengths)}, mean {np.mean(lengths):.0f}, longest {lengths[-1]}"
        )

    def parse(self, **options) -> tuple:
        words = [f"recipes/{MODELS[self.name][2]}", "--model_name_or_path", str(self.base), "--dataset_name", "none"]
        options = {"output_dir": self.work / "run", "report_to": "none", "disable_tqdm": True, **options}
        if self.tiny:
            options |= {"max_length": 160, "inference_max_length": 160}
        words += [word for key, value in options.items() for word in (f"--{key}", str(value))]
        configs = parse_config(JudgeConfig, ModelConfig, TrainingConfig, argv=words)[:3]
        configs[1].use_peft = True
        return configs

    def encode(self, max_length: int) -> Dataset:
        data = Dataset.from_list(self.battles)
        rows = encode(data, self.tokenizer, max_length)
        need = BATTLES * (WARM + STEPS)
        return rows.select([i % len(rows) for i in range(need)])

    def load(self) -> None:
        judge_config, model_config, training = self.configs
        self.description = describe(judge_config, model_config, training, self.base, self.tokenizer)
        model, self.lora = load_model(judge_config, model_config, self.base, self.description)
        self.model = model


def main():
    name, deadline = sys.argv[1], float(sys.argv[2])
    results = Results(name, deadline)
    case = Case(name, TINY, results)
    with results.row("load in 4 bits, as recipes/sft.py does") as row:
        reset_peak()
        row["seconds"] = timed(case.load)
        row["GiB"], row["peak GiB"] = (torch.cuda.memory_allocated() / GIB if CUDA else 0.0), peak()
    if not hasattr(case, "model"):
        sys.exit("the model was not loaded")
    for what, attention, at_once, options in TRAINING[name]:
        with results.row(what, needs=12 + RESERVE[name]) as row:
            if row is not None:
                at_once = min(at_once, BATTLES)
                row |= {"attention": attention or "sdpa", "rows at once": at_once}
                train(case, row, what, attention, at_once, options)
    predict_all(case, results)
    shutil.rmtree(case.base, ignore_errors=True)


def train(case: Case, row: dict, what: str, attention: str | None, at_once: int, options: dict) -> None:
    if attention == "flex_attention" and not CUDA:
        attention = "eager"  # a CPU has no backward pass of flex_attention
    case.model.set_attn_implementation(attention or "sdpa")
    rows, lengths = case.rows, case.rows["length"][:]
    loaded, clock = reset_peak(), Clock()
    steps, in_float32 = WARM + STEPS, options.get("float32", False)
    keys = {key: value for key, value in options.items() if key != "float32"}
    sampler = BatchRebalanceSampler(lengths, BATTLES, 1, BATTLES // at_once, shuffle=False)
    model = case.model
    try:
        if what.startswith("bare"):
            seconds = bare_backbone(case, sampler)
        else:
            if what.startswith("trl"):
                arguments = SFTConfig(
                    output_dir=str(case.work / "trl"), per_device_train_batch_size=at_once, max_length=None,
                    gradient_accumulation_steps=BATTLES // at_once, max_steps=steps, learning_rate=1e-5,
                    report_to="none", save_strategy="no", logging_steps=1000, disable_tqdm=True, bf16=True,
                    use_cpu=not CUDA,
                )  # fmt: skip
                trainer = SFTTrainer(
                    model=model, args=arguments, train_dataset=rows.select_columns(["input_ids", "labels"]),
                    peft_config=case.lora, processing_class=case.tokenizer, callbacks=[clock],
                )  # fmt: skip
                sampler = torch.utils.data.SequentialSampler(rows)  # the same 16 battles in each step
            else:
                _, _, arguments = case.parse(
                    battles_per_step=BATTLES, per_device_train_batch_size=at_once, max_steps=steps,
                    save_strategy="no", logging_steps=1, learning_rate=1e-5, **keys,
                )  # fmt: skip
                trainer = JudgeTrainer(
                    model=model, args=arguments, train_dataset=rows, processing_class=case.tokenizer,
                    peft_config=case.lora, callbacks=[clock],
                )  # fmt: skip
                if what.startswith("flex"):
                    trainer.data_collator = unpadded
                if in_float32:
                    for parameter in trainer.model.parameters():
                        if parameter.requires_grad:
                            parameter.data = parameter.data.float()
            model = trainer.model
            trainable = [p for p in model.parameters() if p.requires_grad]
            row["adapter"] = str(trainable[0].dtype).removeprefix("torch.")
            trainer._get_train_sampler = lambda *_: sampler
            trainer.train()
            seconds = clock.seconds
            losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
            row["loss"] = losses[-1] if losses else None
            if what == "recipe":
                save_judge(case, trainer)
        tokens = [sum(lengths[i : i + BATTLES]) for i in range(0, len(lengths), BATTLES)]
        speeds = [n / s for n, s in zip(tokens[WARM:], seconds[WARM:], strict=True)]
        row["tokens/s"], row["s/step"] = median(speeds), median(seconds[WARM:])
        row["spread"] = (max(speeds) - min(speeds)) / median(speeds)
        mean_length = sum(n * n for n in lengths) / sum(lengths)
        row["TFLOP/s"] = row["tokens/s"] * flops_per_token(case.facts, mean_length, True) / 1e12
        row["of ceiling"] = row["TFLOP/s"] / case.rates[0]
        row["peak GiB"], row["over loaded"] = peak(), peak() - loaded
    finally:
        trainer = None
        if hasattr(model, "unload"):
            case.model = model.unload()
        for parameter in case.model.parameters():
            parameter.grad = None
        case.model.gradient_checkpointing_disable()
        free()


def unpadded(rows: list[dict]) -> dict:
    """What the collator of JudgeTrainer makes where attention keeps rows apart."""
    return {
        **lay_end_to_end(rows),
        "votes": torch.tensor([row["votes"] for row in rows]),
        "ids": [row["id"] for row in rows],
    }


def bare_backbone(case: Case, batches: BatchRebalanceSampler) -> list[float]:
    """Forward and backward of the layers with their LoRA over each row: no head, padding, trainer and optimizer."""
    seconds, model = [], get_peft_model(case.model, case.lora)
    model.train()
    backbone = model.get_base_model().model
    rows = [torch.tensor([ids]) for ids in case.rows["input_ids"][:]]

    def step(numbers: list[int]) -> None:
        for i in numbers:
            with torch.autocast(DEVICE.type, torch.bfloat16):
                hidden = backbone(input_ids=rows[i].to(DEVICE), use_cache=False).last_hidden_state
            hidden[:, -3:].float().square().mean().backward()
        model.zero_grad()

    for first in range(0, len(rows), BATTLES):
        seconds.append(timed(lambda first=first: step(range(first, min(first + BATTLES, len(rows))))))
    model.unload()
    return seconds


def save_judge(case: Case, trainer: JudgeTrainer) -> None:
    """The adapter as recipes/sft.py leaves it, and what its model says before it is loaded anew."""
    folder = case.work / "judge"
    trainer.save_model(str(folder))
    write_json(folder / "judge.json", case.description)
    adapter = trainer.model
    judge = Judge(adapter, case.tokenizer, case.description, None, {"precision": case.description["precision"]})
    case.before = forecasts(judge, case, 4096)
    adapter.train()


def forecasts(judge: Judge, case: Case, max_tokens: int, battles: list[dict] | None = None) -> np.ndarray:
    table = judge.predict_dataset(battles or case.battles, max_tokens_per_batch=max_tokens, progress=False)
    return table[PROBABILITIES].to_numpy()


def predict_all(case: Case, results: Results) -> None:
    case.model = None
    free()
    folder, budgets = case.work / "judge", [4096, 16384, 1, 2048, 8192, 32768]
    bf16, flex = {"quantization": None}, {"attn_implementation": "flex_attention"}
    variants = [("nf4", {}), ("bf16", bf16), ("nf4, flex", flex), ("bf16, flex", bf16 | flex)]
    if "gemma" not in case.name:  # sdpa has no cap, and needs none here
        variants = variants[:2]
    for variant, precision in variants:
        judge = None
        with results.row(f"load judge, {variant}", needs=25) as row:
            if row is not None:
                reset_peak()
                began = time.time()
                judge = Judge.from_pretrained(folder, str(case.base), precision)
                row["seconds"], row["peak GiB"] = time.time() - began, peak()
                row["attention"] = judge.model.config._attn_implementation
        if judge is None:
            continue
        inputs = rows_to_predict(case)
        found = {}
        forecasts(judge, case, 4096, case.battles[:4])  # warm
        for budget in budgets if variant == "nf4" else budgets[:2]:
            with results.row(f"judge, {variant}, {budget} tokens a batch", needs=10) as row:
                if row is not None:
                    loaded = reset_peak()
                    row["s"] = timed(lambda budget=budget: found.update({budget: forecasts(judge, case, budget)}))
                    speed(row, case, loaded)
        with results.row(f"bare backbone, {variant}, row by row", needs=10) as row:
            if row is not None:
                loaded = reset_peak()
                row["s"] = timed(lambda: backbone_alone(judge, inputs, 1))
                speed(row, case, loaded)
        with results.row(f"bare backbone, {variant}, rectangles of 8192", needs=10) as row:
            if row is not None:
                loaded = reset_peak()
                row["s"] = timed(lambda: backbone_alone(judge, inputs, 8192))
                speed(row, case, loaded)
        if "flex" not in variant:
            with results.row(f"notebook: fours in file order, all logits, {variant}", needs=10) as row:
                if row is not None:
                    loaded = reset_peak()
                    row["s"] = timed(lambda: notebook(judge, inputs))
                    speed(row, case, loaded)
        with results.row(f"exactness, {variant}") as row:
            one = found[4096]
            for budget, other in found.items():
                if budget != 4096:
                    row[f"{budget} to 4096"] = float(np.abs(other - one).max())
            again = forecasts(judge, case, 4096)
            row["the same twice"] = float(np.abs(again - one).max())
            if variant == "nf4" and hasattr(case, "before"):
                row["saved and loaded"] = float(np.abs(case.before - one).max())
            case.first = getattr(case, "first", one)
            row["to nf4"] = float(np.abs(case.first - one).max())
            row["std of forecasts"] = float(one.std())
        del judge
        free()
    if case.name == "gemma-2-2b":
        with results.row("exactness, float32 of the same weights", needs=20) as row:
            if row is not None:
                fp32 = {"quantization": None, "dtype": "float32", "autocast": False, "attn_implementation": "eager"}
                judge = Judge.from_pretrained(folder, str(case.base), fp32)
                sample = case.battles[:32]
                exact = forecasts(judge, case, 4096, sample)
                row["to nf4"] = float(np.abs(exact - case.first[: len(sample)]).max())


def speed(row: dict, case: Case, loaded: float) -> None:
    lengths = [ids.shape[1] for ids in rows_to_predict(case)]
    row["battles/s"], row["tokens/s"] = len(lengths) / row["s"], sum(lengths) / row["s"]
    mean_length = sum(n * n for n in lengths) / sum(lengths)
    row["of ceiling"] = row["tokens/s"] * flops_per_token(case.facts, mean_length, False) / 1e12 / case.rates[0]
    row["over loaded"] = peak() - loaded


def rows_to_predict(case: Case) -> list[torch.Tensor]:
    if not hasattr(case, "inputs"):
        ids, _ = shown_rows(case.battles, "ab", case.tokenizer, case.description["inference_max_length"], "last")
        case.inputs = [torch.from_numpy(row).long()[None] for row in ids]
    return case.inputs


@torch.inference_mode()
def backbone_alone(judge: Judge, rows: list[torch.Tensor], max_tokens: int) -> None:
    """Without padding and head: each row, or batches as full rectangles, as if their rows were equally long."""
    backbone = judge.model.get_base_model().model
    for batch in token_batches([row.shape[1] for row in rows], max_tokens):
        tokens = torch.cat([rows[i] for i in batch], 1)[0]
        tokens = tokens[: len(tokens) // len(batch) * len(batch)].view(len(batch), -1).to(DEVICE)
        with torch.autocast(DEVICE.type, torch.bfloat16) if CUDA else nullcontext():
            backbone(input_ids=tokens, use_cache=False)


@torch.inference_mode()
def notebook(judge: Judge, rows: list[torch.Tensor]) -> list:
    letters, found = [judge.settings["letters"][winner]["id"] for winner in WINNERS], []
    for first in range(0, len(rows), 4):
        batch = pad_left(
            [{"input_ids": row[0].tolist()} for row in rows[first : first + 4]], judge.tokenizer.pad_token_id
        )
        batch = {key: tensor.to(DEVICE) for key, tensor in batch.items()}
        with torch.autocast(DEVICE.type, torch.bfloat16):
            logits = judge.model(**batch, use_cache=False).logits
        found.append(logits[:, -1, letters].float().softmax(-1).cpu())
    return found


if __name__ == "__main__":
    main()
