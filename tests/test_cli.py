"""The command `lmsys-trl`, as users type it."""

import os
import subprocess
import sys

import pytest
from helpers.run import REPOSITORY, programs, run

from lmsys_trl.cli import COMMANDS, LAUNCHED, accelerate_config, recipe_scripts
from lmsys_trl.config import accelerate_configs

VERBS = sorted(recipe_scripts())
HEAVY = {
    "accelerate",
    "datasets",
    "matplotlib",
    "pandas",
    "pyarrow",
    "scipy",
    "sklearn",
    "torch",
    "transformers",
    "trl",
}


def lmsys_trl(*words, cwd):
    """Run the command; returns its exit status and its output."""
    command = [programs() / "python", "-c", "from lmsys_trl.cli import main; main()", *map(str, words)]
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    return result.returncode, result.stdout + result.stderr


def test_all_verbs_are_listed(tmp_path):
    status, output = lmsys_trl("--help", cwd=tmp_path)
    assert status == 0 and all(f"\n  {verb} " in output for verb in (*VERBS, *COMMANDS))
    assert {"sft", "predict", "validate", "prepare", "check", "push"} <= set(VERBS) >= set(LAUNCHED)
    assert lmsys_trl(cwd=tmp_path)[1] == output


@pytest.mark.parametrize("verb", VERBS)
def test_help_and_typos_need_no_heavy_imports(verb, tmp_path):
    """Seconds depend on the machine; what is imported does not. With a typo sft looks for more, which takes them."""
    attempts = [["--help"]] if verb == "sft" else [["--help"], ["--no_such_key", "1"]]
    code = (
        "import runpy, sys\n"
        f"for words in {attempts}:\n"
        "    sys.argv[1:] = words\n"
        "    try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "    except SystemExit as end: print('exit:', end)\n"
        f"print('imported:', sorted({HEAVY} & sys.modules.keys()))"
    )
    result = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.argv = sys.argv[1:]\n{code}", recipe_scripts()[verb]],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert result.stdout.endswith("imported: []\n"), result.stdout + result.stderr
    assert f"usage: lmsys-trl {verb}" in result.stdout and "exit: 0" in result.stdout
    if verb != "sft":
        assert f"exit: {verb}.py: " in result.stdout and "no_such_key: unknown key" in result.stdout


def test_a_typo_is_reported_before_accelerate_starts(tmp_path):
    status, output = lmsys_trl("predict", "--adaptr", "x", "--max_tokens_per_batch", "x", cwd=tmp_path)
    assert status == 1 and "adaptr: unknown key in the command line. Did you mean adapter?" in output
    assert "max_tokens_per_batch: input should be a valid integer" in output and "Traceback" not in output


@pytest.mark.parametrize("verb", ["sft", "check"])
def test_all_problems_of_a_recipe_are_reported_together(verb, tmp_path):
    words = ["--learning_rate", "-1", "--learning_rat", "1", "--lora_target_modules", "q_proj", "nope", "lm_head"]
    words += ["--lora_layers_to_transform", "0", "99", "--report_to", "nothing", "--max_length", "9000"]
    words += ["--head", "lm_head"]
    status, output = lmsys_trl(verb, "smollm2.yaml", *words, cwd=tmp_path)
    found = [
        "learning_rate: input should be a number above 0",
        "learning_rat: unknown key in the command line. Did you mean learning_rate?",
        "lora_target_modules: the model has no nope",
        "lora_target_modules: trl trains no adapter on lm_head",
        "lora_layers_to_transform: no layer 99 among 0 to 29",
        "max_length: 9000 tokens, but the model has positions for 8192",
        "report_to: transformers knows no nothing",
    ]
    if verb == "sft":
        found.append("dataset_name: data/battles is not a data set")
    assert status == 1 and "Traceback" not in output
    assert all(problem in output for problem in found), output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sfd"], "there is no such verb. Did you mean sft?"),
        (["sft", "no.yaml"], "there is no configuration file 'no.yaml'"),
        (["sft", "--accelerate_config", "xyz"], "there is no file 'xyz'. The shipped ones are cpu, fsdp"),
        (["sft", "--accelerate_config", "multi-gpu"], "Did you mean multi_gpu?"),
        (["sft", "--accelerate_config", "--swap", "all"], "accelerate_config: missing its value"),
        (["sft", "--accelerate_config"], "accelerate_config: missing its value"),
        (["copy", "gemma.yaml"], "expected 2 names, found 1"),
        (["recipes", "gemma"], "expected 0 names, found 1"),
        (["copy", "no.yaml", "x.yaml"], "there is no configuration file 'no.yaml'"),
    ],
)
def test_mistakes(words, message, tmp_path):
    status, output = lmsys_trl(*words, cwd=tmp_path)
    assert status == 1 and message in output and "Traceback" not in output


def test_recipes_are_listed_copied_and_used(tmp_path):
    _, listing = lmsys_trl("recipes", cwd=tmp_path)
    names = [path.name for path in (REPOSITORY / "recipes").glob("*/*.yaml")]
    assert all(f"\n{name} " in listing for name in names)
    gemma = next(line for line in listing.splitlines() if line.startswith("gemma.yaml"))
    assert "google/gemma-2-9b-it" in gemma and "4-bit LoRA r 32, 2200 tokens" in gemma and "GPU" in gemma
    status, output = lmsys_trl("copy", "gemma.yaml", "mine.yaml", cwd=tmp_path)
    assert status == 0 and "lmsys-trl sft mine.yaml" in output
    assert (tmp_path / "mine.yaml").read_text() == (REPOSITORY / "recipes" / "sft" / "gemma.yaml").read_text()
    (tmp_path / "mine.yaml").write_text((tmp_path / "mine.yaml").read_text() + "lora_rank: 4\n")
    status, output = lmsys_trl("copy", "gemma.yaml", "mine.yaml", cwd=tmp_path)
    assert status == 1 and "mine.yaml exists already" in output
    _, output = lmsys_trl("sft", "mine.yaml", cwd=tmp_path)
    assert "lora_rank: unknown key in mine.yaml" in output


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["copy", "--help"], "usage: lmsys-trl copy NAME TARGET"),
        (["env", "-h"], "usage: lmsys-trl env"),
        (["help", "sft"], "--accelerate_config NAME: one of cpu, fsdp"),
        (["--version"], "0."),
    ],
)
def test_help_of_commands(words, shown, tmp_path):
    status, output = lmsys_trl(*words, cwd=tmp_path)
    assert status == 0 and shown in output


def test_versions_for_a_bug_report(tmp_path):
    _, output = lmsys_trl("env", cwd=tmp_path)
    assert {"python", "lmsys-trl", "torch", "transformers", "trl", "peft"} <= {
        line.split()[0] for line in output.splitlines()
    }


def test_accelerate_configs_by_name_and_by_path(tmp_path):
    shipped = REPOSITORY / "accelerate_configs"
    assert accelerate_configs() == sorted(path.stem for path in shipped.glob("*.yaml"))
    assert accelerate_config("multi_gpu") == shipped / "multi_gpu.yaml"
    (tmp_path / "mine.yaml").write_text("use_cpu: true\n")
    assert accelerate_config(str(tmp_path / "mine.yaml")) == tmp_path / "mine.yaml"
    assert accelerate_config(None).stem in ("cpu", "single_gpu")


def test_a_recipe_runs_under_accelerate(tmp_path):
    """What it says of its missing data comes from the started script."""
    words = ["--adapter", tmp_path, "--test_file", tmp_path / "no.csv", "--output_file", tmp_path / "out.csv"]
    command = [sys.executable, "-m", "lmsys_trl.cli", "predict", *words, "--accelerate_config", "cpu"]
    output = run(*command, cwd=tmp_path, fails=True)
    assert "predict.py: " in output and "there is no such file" in output, output
    assert "The following values were not passed to" not in output
