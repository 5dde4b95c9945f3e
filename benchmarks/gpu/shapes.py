"""
One base model of real shape with random weights: loading it as recipes/sft.py does, training steps side by side,
prediction side by side, and how exact predictions are. Time and memory do not depend on the values of the weights.
"""

import shutil
import sys
import time
from contextlib import nullcontext
from statistics import median

import numpy as np
import torch
from common import (
    KIT,
    MODELS,
    Results,
    arena_battles,
    build_base,
    flops_per_token,
    free_memory,
    kernel_rates,
    shape,
    start_measuring_memory,
)
from datasets import Dataset
from devices import CUDA, DEVICE, GIB, peak_memory, synchronize, timed
from peft import get_peft_model
from sft import CONFIGS
from transformers import TrainerCallback
from transformers.trainer_pt_utils import BatchRebalanceSampler
from trl import SFTConfig, SFTTrainer

from lmsys_trl.config import parse_config
from lmsys_trl.encoding.batching import pad_left, token_batches
from lmsys_trl.encoding.dataset import encode_dataset
from lmsys_trl.encoding.tokenizer import load_tokenizer
from lmsys_trl.judging.both_orders import encode_for_prediction
from lmsys_trl.judging.judge import Judge
from lmsys_trl.predictions.table import PROBABILITIES
from lmsys_trl.training.run import describe, load_model, lora_config
from lmsys_trl.training.trainer import JudgeTrainer

TINY = "--tiny" in sys.argv
BATTLES, WARM, STEPS = (4, 1, 1) if TINY else (16, 1, 3)  # battles in an optimizer step; untimed and timed steps
# What trains, and how many examples at once; or examples of a step in batches of as many tokens as one, or several, of
# the longest has. A row for which there is no time left is skipped.
TRAINING = [
    ("recipe", 1, {}),
    ("recipe, batches of max_length tokens", 16, {"longest": 1}),
    ("trl.SFTTrainer with its defaults", 8, {}),
    ("bare backbone, one by one", 1, {}),
    ("recipe, batches of 4 x max_length tokens, checkpointed", 16, {"longest": 4, "activation_checkpointing": True}),
]
FLEX = [  # after prediction: to compile takes two minutes
    ("flex, packed, 4 examples", 4, {}),
    ("flex, packed, batches of max_length tokens", 16, {"longest": 1}),
    ("flex, packed, checkpointed", 16, {"activation_checkpointing": True}),
]
PREDICTION = {"gemma-2-9b": 110, "llama-3.1-8b": 50, "gemma-2-2b": 50}  # seconds that training leaves to it


class Clock(TrainerCallback):
    """Seconds of each step, all of its work on the device included."""

    def __init__(self):
        self.seconds = []

    def on_step_begin(self, args, state, control, **kwargs):
        synchronize()
        self.began = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        synchronize()
        self.seconds.append(time.perf_counter() - self.began)


class Case:
    """A base model, its recipe, and examples of the arena battles."""

    def __init__(self, name: str, tiny: bool, results: Results):
        self.name, self.tiny, self.results = name, tiny, results
        self.model_config, self.work = shape(name, tiny), KIT / "work" / name
        shutil.rmtree(self.work, ignore_errors=True)
        self.rates = kernel_rates()
        results.fact("upper bounds, TFLOP/s and TB/s", [round(rate, 2) for rate in self.rates])
        with results.row("write random weights") as row:
            self.base = build_base(name, tiny)
            row["GiB"] = sum(file.stat().st_size for file in self.base.iterdir()) / GIB
        self.battles = [battle for battle in arena_battles(tiny) if battle["vote"]]
        self.configs = self.parse()
        self.attention = self.configs[1].attn_implementation or "sdpa"
        self.tokenizer = load_tokenizer(str(self.base), self.configs[0].pad_token)
        self.examples = self.encode(self.configs[2].max_length)
        lengths = sorted(self.examples["length"])
        results.fact(
            "tokens in an example", f"median {median(lengths)}, mean {np.mean(lengths):.0f}, longest {lengths[-1]}"
        )

    def parse(self, **options) -> tuple:
        """The recipe's configs, with some options as on its command line."""
        recipe = f"recipes/sft/{MODELS[self.name][2]}"
        options = {
            "model_name_or_path": self.base, "dataset_name": "none", "output_dir": self.work / "run",
            "report_to": "none", "disable_tqdm": True, **options,
        }  # fmt: skip
        if self.tiny:
            options |= {"max_length": 160, "inference_max_length": 160}
        words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
        return parse_config(*CONFIGS, argv=[recipe, *words])[:3]

    def encode(self, max_length: int) -> Dataset:
        """As many examples as all steps need."""
        examples = encode_dataset(Dataset.from_list(self.battles), self.tokenizer, max_length)
        needed = BATTLES * (WARM + STEPS)
        return examples.select([i % len(examples) for i in range(needed)])

    def load(self) -> None:
        """Load the base model as recipes/sft.py does."""
        judge_config, model_config, training = self.configs
        self.judge_file = describe(judge_config, model_config, training, self.base, self.tokenizer)
        self.lora = lora_config(judge_config, model_config)
        self.model = load_model(model_config, training, self.base, self.judge_file, adapter=None)

    def prediction_inputs(self) -> list[torch.Tensor]:
        """The token ids of what a judge reads, each of shape `(1, tokens)`."""
        if not hasattr(self, "inputs"):
            max_length = self.judge_file.inference_max_length
            version = self.judge_file.prompt_version
            ids, *_ = encode_for_prediction(self.battles, "ab", self.tokenizer, max_length, "last", version)
            self.inputs = [torch.from_numpy(tokens).long()[None] for tokens in ids]
        return self.inputs


def main():
    name, deadline = sys.argv[1], float(sys.argv[2])
    results = Results(name, deadline)
    case = Case(name, TINY, results)
    with results.row("load in 4 bits, as recipes/sft.py does") as row:
        start_measuring_memory()
        row["seconds"] = timed(case.load)
        row["GiB"], row["peak GiB"] = (torch.cuda.memory_allocated() / GIB if CUDA else None), peak_memory()
    if not hasattr(case, "model"):
        sys.exit("the model was not loaded")
    for what, at_once, options in TRAINING:
        with results.row(what, needs=30 + PREDICTION[name]) as row:
            if row is not None:
                train(case, row, what, case.attention, at_once, options)
    predict_all(case, results)
    for what, at_once, options in FLEX:
        with results.row(what, needs=150 if CUDA and what == FLEX[0][0] else 20) as row:
            if row is not None:
                if case.model is None:
                    case.load()
                # a CPU has no backward pass of flex_attention
                train(case, row, what, "flex_attention" if CUDA else case.attention, at_once, options)
    shutil.rmtree(case.base, ignore_errors=True)


def train(case: Case, row: dict, what: str, attention: str, at_once: int, options: dict) -> None:
    """Time some optimizer steps of one implementation, and leave the base model as it was."""
    at_once = min(at_once, BATTLES)
    torch.backends.cuda.enable_cudnn_sdp(True)  # which a JudgeTrainer has turned off
    row |= {"attention": attention, "at once": at_once}
    case.model.set_attn_implementation(attention)
    examples, lengths = case.examples, case.examples["length"][:]
    loaded, clock = start_measuring_memory(), Clock()
    sampler = BatchRebalanceSampler(lengths, BATTLES, 1, BATTLES // at_once, shuffle=False)
    model = case.model
    try:
        if what.startswith("bare"):
            seconds = train_bare_backbone(case)
        else:
            if what.startswith("trl"):
                trainer = build_trl_trainer(case, at_once, clock)
                sampler = torch.utils.data.SequentialSampler(examples)  # the same battles in each step
            else:
                trainer = build_judge_trainer(case, at_once, clock, **options)
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
        row["TFLOP/s"] = row["tokens/s"] * flops_per_token(case.model_config, mean_length, True) / 1e12
        row["of upper bound"] = row["TFLOP/s"] / case.rates[0]
        row["peak GiB"], row["over loaded"] = peak_memory(), peak_memory() - loaded
    finally:
        trainer = None
        if hasattr(model, "unload"):
            case.model = model.unload()
        for parameter in case.model.parameters():
            parameter.grad = None
        case.model.gradient_checkpointing_disable()
        free_memory()


def build_trl_trainer(case: Case, at_once: int, clock: Clock) -> SFTTrainer:
    arguments = SFTConfig(
        output_dir=str(case.work / "trl"), per_device_train_batch_size=at_once, max_length=None,
        gradient_accumulation_steps=BATTLES // at_once, max_steps=WARM + STEPS, learning_rate=1e-5, report_to="none",
        save_strategy="no", logging_steps=1000, disable_tqdm=True, bf16=True, use_cpu=not CUDA,
    )  # fmt: skip
    return SFTTrainer(
        model=case.model, args=arguments, train_dataset=case.examples.select_columns(["input_ids", "labels"]),
        peft_config=case.lora, processing_class=case.tokenizer, callbacks=[clock],
    )  # fmt: skip


def build_judge_trainer(case: Case, at_once: int, clock: Clock, longest: int | None = None, **options) -> JudgeTrainer:
    if longest is not None:
        options["max_tokens_per_batch"] = longest * case.configs[2].max_length
    _, _, arguments = case.parse(
        battles_per_step=BATTLES, per_device_train_batch_size=at_once, max_steps=WARM + STEPS, save_strategy="no",
        logging_steps=1, learning_rate=1e-5, **options,
    )  # fmt: skip
    return JudgeTrainer(
        model=case.model, args=arguments, train_dataset=case.examples, processing_class=case.tokenizer,
        peft_config=case.lora, callbacks=[clock],
    )  # fmt: skip


def train_bare_backbone(case: Case) -> list[float]:
    """Forward and backward of the layers with LoRA over each example: no head, padding, trainer and optimizer."""
    seconds, model = [], get_peft_model(case.model, case.lora)
    model.train()
    backbone = model.get_base_model().model
    inputs = [torch.tensor([ids]) for ids in case.examples["input_ids"][:]]

    def step(numbers: range) -> None:
        for i in numbers:
            with torch.autocast(DEVICE.type, torch.bfloat16):
                hidden = backbone(input_ids=inputs[i].to(DEVICE), use_cache=False).last_hidden_state
            hidden[:, -3:].float().square().mean().backward()
        model.zero_grad()

    for first in range(0, len(inputs), BATTLES):
        numbers = range(first, min(first + BATTLES, len(inputs)))
        seconds.append(timed(lambda numbers=numbers: step(numbers)))
    model.unload()
    return seconds


def save_judge(case: Case, trainer: JudgeTrainer) -> None:
    """Save the adapter as recipes/sft.py does, and keep what its model predicts before it is loaded again."""
    folder = case.work / "judge"
    trainer.save_model(str(folder))
    case.judge_file.save(folder)
    adapter, head = trainer.model, trainer.model.get_output_embeddings()
    judge = Judge(adapter, case.tokenizer, case.judge_file)
    case.before_saving = predict(judge, case, 4096)
    adapter.set_output_embeddings(head)  # a judge has put that of the letters there
    adapter.train()


def predict(judge: Judge, case: Case, max_tokens: int, battles: list[dict] | None = None) -> np.ndarray:
    table = judge.predict_dataset(battles or case.battles, max_tokens_per_batch=max_tokens, progress=False)
    return table[PROBABILITIES].to_numpy()


def predict_all(case: Case, results: Results) -> None:
    """Time predictions in several precisions and batch shapes, and compare their probabilities."""
    case.model = None
    torch.backends.cuda.enable_cudnn_sdp(True)
    free_memory()
    folder, budgets = case.work / "judge", [4096, 16384, 1, 2048, 8192, 32768]
    bf16, flex = {"quantization": None}, {"attn_implementation": "flex_attention"}
    variants = [("nf4", {}), ("bf16", bf16), ("nf4, flex", flex), ("bf16, flex", bf16 | flex)]
    if "gemma" not in case.name:  # sdpa has no cap, and needs none here
        variants = variants[:2]
    for variant, precision in variants:
        judge = None
        with results.row(f"load judge, {variant}", needs=25) as row:
            if row is not None:
                start_measuring_memory()
                began = time.time()
                judge = Judge.from_pretrained(folder, str(case.base), precision)
                row["seconds"], row["peak GiB"] = time.time() - began, peak_memory()
                row["attention"] = judge.model.config._attn_implementation
        if judge is None:
            continue
        measure_speed(judge, variant, budgets if variant == "nf4" else budgets[:2], case, results)
        del judge
        free_memory()
    if case.name == "gemma-2-2b":
        with results.row("exactness, float32 of the same weights", needs=20) as row:
            if row is not None:
                fp32 = {"quantization": None, "dtype": "float32", "autocast": False, "attn_implementation": "eager"}
                judge = Judge.from_pretrained(folder, str(case.base), fp32)
                sample = case.battles[:32]
                exact = predict(judge, case, 4096, sample)
                row["to nf4"] = float(np.abs(exact - case.in_nf4[: len(sample)]).max())


def measure_speed(judge: Judge, variant: str, budgets: list[int], case: Case, results: Results) -> None:
    """Rows of one variant: the judge with several tokens a batch, the bare backbone, the usual notebook, exactness."""
    inputs, predictions = case.prediction_inputs(), {}
    predict(judge, case, 4096, case.battles[:4])  # warm

    def measure(what: str, function) -> None:
        with results.row(what, needs=10) as row:
            if row is not None:
                loaded = start_measuring_memory()
                row["s"] = timed(function)
                add_speed(row, case, loaded)

    for budget in budgets:
        measure(
            f"judge, {variant}, {budget} tokens a batch",
            lambda budget=budget: predictions.update({budget: predict(judge, case, budget)}),
        )
    measure(f"bare backbone, {variant}, one by one", lambda: predict_bare_backbone(judge, inputs, 1))
    measure(f"bare backbone, {variant}, rectangles of 8192", lambda: predict_bare_backbone(judge, inputs, 8192))
    if "flex" not in variant:
        measure(f"notebook: fours in file order, all logits, {variant}", lambda: predict_notebook(judge, inputs))
    with results.row(f"exactness, {variant}") as row:
        reference = predictions[4096]
        for budget, other in predictions.items():
            if budget != 4096:
                row[f"{budget} to 4096"] = float(np.abs(other - reference).max())
        again = predict(judge, case, 4096)
        row["the same twice"] = float(np.abs(again - reference).max())
        if variant == "nf4" and hasattr(case, "before_saving"):
            row["saved and loaded"] = float(np.abs(case.before_saving - reference).max())
        case.in_nf4 = getattr(case, "in_nf4", reference)
        row["to nf4"] = float(np.abs(case.in_nf4 - reference).max())
        row["std of predictions"] = float(reference.std())


def add_speed(row: dict, case: Case, loaded: float) -> None:
    lengths = [ids.shape[1] for ids in case.prediction_inputs()]
    row["battles/s"], row["tokens/s"] = len(lengths) / row["s"], sum(lengths) / row["s"]
    mean_length = sum(n * n for n in lengths) / sum(lengths)
    row["of upper bound"] = (
        row["tokens/s"] * flops_per_token(case.model_config, mean_length, False) / 1e12 / case.rates[0]
    )
    row["over loaded"] = peak_memory() - loaded


@torch.inference_mode()
def predict_bare_backbone(judge: Judge, inputs: list[torch.Tensor], max_tokens: int) -> None:
    """Without padding and head: one by one, or batches as full rectangles, as if their examples were equally long."""
    backbone = judge.model.get_base_model().model
    for batch in token_batches([ids.shape[1] for ids in inputs], max_tokens):
        tokens = torch.cat([inputs[i] for i in batch], 1)[0]
        tokens = tokens[: len(tokens) // len(batch) * len(batch)].view(len(batch), -1).to(DEVICE)
        with torch.autocast(DEVICE.type, torch.bfloat16) if CUDA else nullcontext():
            backbone(input_ids=tokens, use_cache=False)


@torch.inference_mode()
def predict_notebook(judge: Judge, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """As public notebooks do it, with the logits of the whole vocabulary."""
    letters, probabilities = judge.settings.token_ids, []
    letters_head = judge.model.get_output_embeddings()
    judge.model.set_output_embeddings(letters_head.complete[0])
    for first in range(0, len(inputs), 4):
        examples = [{"input_ids": ids[0].tolist()} for ids in inputs[first : first + 4]]
        batch = pad_left(examples, judge.tokenizer.pad_token_id)
        batch = {key: tensor.to(DEVICE) for key, tensor in batch.items()}
        with torch.autocast(DEVICE.type, torch.bfloat16):
            logits = judge.model(**batch, use_cache=False).logits
        probabilities.append(logits[:, -1, letters].float().softmax(-1).cpu())
    judge.model.set_output_embeddings(letters_head)
    return probabilities


if __name__ == "__main__":
    main()
