"""Secrets that are planted in the environment, in options and in files are in nothing that is printed or written."""

import pytest
from helpers.models import build_base
from helpers.recipe_server import REPOSITORY, RecipeServer
from helpers.votes import write_votes

from lmsys_trl.data.synthetic import make_battles
from lmsys_trl.redaction import without_secrets

IN_ENVIRONMENT = {
    "HF_TOKEN": "hf_PLANTEDhubPLANTEDhubPLANTED", "KAGGLE_KEY": "PLANTED-kaggle-key", "KAGGLE_USERNAME": "someone",
    "KAGGLE_API_TOKEN": "KGAT_PLANTEDkagglePLANTED", "WANDB_API_KEY": "PLANTED-wandb-key",
    "AWS_SECRET_ACCESS_KEY": "PLANTED-aws-key",
}  # fmt: skip
URL = "https://user:PLANTED-url@host.example/terms"
OTHER = "hf_PLANTEDofSomebodyElse"  # is not in the environment
TINY = "--model_name_or_path models/tiny --max_length 700 --bf16 false --lora_layers_to_transform 1 --max_steps 2"
RUNS = f"""
prepare --sources votes.csv --output_dir data
sft smollm2.yaml --dataset_name data {TINY} --output_dir judge --save_steps 1
sft smollm2.yaml --dataset_name data {TINY} --output_dir two --seed 7
predict --adapter judge --test_file votes.csv --output_file out.parquet --tta swap
validate --adapter judge --test_file votes.csv --output_dir judge/report
calibrate --adapter judge --predictions out.parquet
merge --adapter judge two --output_dir mean
"""
REFUSED = f"""
prepare secret.yaml
prepare --sources {URL} --output_dir none
prepare --sources kaggle:{IN_ENVIRONMENT["KAGGLE_KEY"]} --output_dir none
sft smollm2.yaml --dataset_name data {TINY} --output_dir none --run_name {URL}
sft smollm2.yaml --dataset_name data {TINY} --output_dir none --project {OTHER} --lora_r 0
sft smollm2.yaml --dataset_name data {TINY} --output_dir none --run_name {IN_ENVIRONMENT["HF_TOKEN"]}
sft smollm2.yaml --hub_token {OTHER}
predict --adapter {URL} --test_file votes.csv --output_file none.parquet
validate --predictions {IN_ENVIRONMENT["WANDB_API_KEY"]} --output_dir none
push --adapter judge --hub_model_id owner/{OTHER}
check smollm2.yaml --run_name {URL}
predict {URL}
"""


@pytest.mark.parametrize("value", [*IN_ENVIRONMENT.values(), URL, URL.replace("//", "/"), OTHER])
def test_secrets_by_their_form_and_their_variable(value, monkeypatch):
    for name, secret in {**IN_ENVIRONMENT, "HF_TOKEN_PATH": "runs/judge", "SHORT_KEY": "short"}.items():
        monkeypatch.setenv(name, secret)
    for nested in (f"a {value} b", [value, 7, None], {"a": {"b": [f"runs/{value}"]}}):
        redacted = without_secrets(nested)
        assert "PLANTED" not in str(redacted) and ("[secret]" in str(redacted)) == ("PLANTED" in value)
    for text in ("runs/judge of a short name", "https://host/path@revision", "owner/name@main", "mail@host.org", 7):
        assert without_secrets(text) == text


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder in which verbs were run with secrets in the environment, and a function that runs more."""
    folder = tmp_path_factory.mktemp("secrets")
    build_base(folder / "models" / "tiny")
    write_votes(folder / "votes.csv", make_battles(40))
    with RecipeServer(tmp_path_factory.mktemp("server"), **IN_ENVIRONMENT) as server:

        def run(command: str) -> tuple[int, str]:
            verb, *words = command.split()
            return server.run_script(REPOSITORY / "recipes" / f"{verb}.py", words, folder)

        yield folder, run


def test_no_secret_of_the_environment_gets_out(project):
    folder, run = project
    for command in RUNS.strip().splitlines():
        status, output = run(command)
        assert status == 0 and "PLANTED" not in output, output
    for name in ("data/README.md", "judge/judge.json", "judge/report/metrics.json", "out.parquet", "mean/judge.json"):
        assert (folder / name).is_file()
    for path in folder.rglob("*"):
        assert not path.is_file() or b"PLANTED" not in path.read_bytes(), path


@pytest.mark.parametrize("command", REFUSED.strip().splitlines())
def test_secrets_in_options_are_refused_and_not_repeated(project, command):
    folder, run = project
    (folder / "secret.yaml").write_text(f"sources:\n- {{path: votes.csv, license: '{URL}'}}\noutput_dir: none\n")
    status, output = run(command)
    assert status == 1 and "PLANTED" not in output and "Traceback" not in output, output
    assert "secret" in output
    assert not list(folder.glob("none*"))
