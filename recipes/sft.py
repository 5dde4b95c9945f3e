"""
Train a judge: a LoRA adapter whose answer letter is a calibrated probability of the vote.

    accelerate launch recipes/sft.py gemma.yaml --dataset_name data/battles --output_dir runs/judge
    lmsys-trl sft gemma.yaml --dataset_name data/battles --output_dir runs/judge

Started again with the same command, an interrupted run resumes from its last checkpoint.
"""

import sys
from pathlib import Path

from lmsys_trl.config import keys_on_command_line, parse_config
from lmsys_trl.errors import collect_problems, raise_problems
from lmsys_trl.options import MODEL_CONFIG, TRAINING_CONFIG, JudgeConfig
from lmsys_trl.terminal import logger, run_recipe, suggest_next

CONFIGS = (JudgeConfig, MODEL_CONFIG, TRAINING_CONFIG)


def main():
    problems: list[str] = []
    judge_config, model_config, training, given = parse_config(*CONFIGS, problems=problems)

    # Imported now: what takes seconds must not delay --help.
    from accelerate import PartialState

    from lmsys_trl.data.dataset import data_fingerprint, load_battles
    from lmsys_trl.encoding.tokenizer import load_tokenizer
    from lmsys_trl.models.adapter import ADAPTER_FILES, JUDGE_FILE, resolve_adapter
    from lmsys_trl.models.base import resolve_base
    from lmsys_trl.outputs import claim, refuse_foreign
    from lmsys_trl.preflight.machine import check_machine
    from lmsys_trl.preflight.recipe import check_recipe
    from lmsys_trl.publish.callback import PushCallback
    from lmsys_trl.training import run
    from lmsys_trl.training.checkpoints import CheckpointCallback, checkpoint_to_resume
    from lmsys_trl.training.evaluation import evaluate_at_end, log_validation_loss
    from lmsys_trl.training.trainer import JudgeTrainer

    problems += check_recipe(judge_config, model_config, training)[1] + check_machine(model_config, training)
    earlier = judge_config.adapter_name_or_path
    with collect_problems(problems):
        adapter = resolve_adapter(earlier) if earlier else None
    with collect_problems(problems):
        if judge_config.dataset_name:
            splits = load_battles(judge_config.dataset_name)
            battles = run.select_training_data(splits, judge_config)
    raise_problems(problems)
    run.warn_of_other_base(judge_config, model_config, keys_on_command_line(sys.argv))
    output_dir = Path(training.output_dir)
    base = resolve_base(model_config.model_name_or_path, model_config.model_revision)
    fingerprints = {name: data_fingerprint(split) for name, split in splits.items()}
    if (output_dir / JUDGE_FILE).exists():
        run.check_finished_judge(output_dir, given, base, fingerprints)
        logger.info("%s holds this judge already. To train another one choose another --output_dir.", output_dir)
        return
    refuse_foreign(output_dir, (*ADAPTER_FILES, "README.md"), ("checkpoint-*",), "a run of sft")
    with claim(output_dir, is_main_process=PartialState().is_main_process):
        tokenizer = load_tokenizer(str(base), judge_config.pad_token)
        examples = run.encode_splits(battles, tokenizer, judge_config, training)

        lora = run.lora_config(judge_config, model_config)
        judge_file = run.describe(judge_config, model_config, training, base, tokenizer)
        if adapter:
            run.check_earlier_adapter(adapter, judge_file, lora)
        settings = run.run_fingerprint(judge_config, model_config, training, base, fingerprints, adapter)
        checkpoint = checkpoint_to_resume(output_dir, settings, training.resume_from_checkpoint)
        pushes = [PushCallback(training, judge_file.base_model["id"])] if training.push_to_hub else []
        training.push_to_hub = False  # `pushes` replace the Trainer's own

        model = run.load_model(model_config, training, base, judge_file, adapter)
        run.align_special_tokens(model, tokenizer)
        trainer = JudgeTrainer(
            model=model,
            args=training,
            train_dataset=examples["train"].shuffle(seed=training.seed),  # batch_rebalance has a seed of its own
            eval_dataset=examples.get("validation"),
            processing_class=tokenizer,
            peft_config=None if adapter else lora,
            callbacks=[CheckpointCallback(settings), *pushes],
        )
        if checkpoint:
            logger.info("Resuming from %s", checkpoint)
        run.log_summary(given, examples, training.world_size, trainer.model)
        evaluate_at_end(trainer)
        trainer.train(resume_from_checkpoint=checkpoint)
        run.exit_if_stopped(trainer)

        trainer.save_model()
        if PartialState().is_main_process:
            run.save_judge(trainer, base, judge_file, judge_config, battles["train"], fingerprints, given, adapter)
        log_validation_loss(trainer)
        run.write_probes(trainer, tokenizer, judge_file)
        if PartialState().is_main_process:
            for push in pushes:
                push.finish(output_dir)
            votes = (
                ("--dataset_name", judge_config.dataset_name) if "validation" in examples else ("--test_file", "FILE")
            )
            suggest_next("validate", "--adapter", output_dir, *votes, "--output_dir", output_dir / "report")


if __name__ == "__main__":
    run_recipe(main)
