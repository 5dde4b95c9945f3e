"""judge.json: those of earlier versions, damaged ones, and what two judges must share."""

import copy
import json

import pytest

from lmsys_trl.models.judge_file import JudgeFile, load_judge_files

# As lmsys-trl 0.1.0 wrote it after training, calibration and averaging, with all its keys.
WRITTEN = {
    "prompt_version": "lmsys-38th-v1",
    "letters": {
        "model_a": {"letter": "A", "id": 35},
        "model_b": {"letter": "B", "id": 36},
        "tie": {"letter": "C", "id": 37},
    },
    "max_length": 700,
    "inference_max_length": 650,
    "temperature": 1.03,
    "base_model": {
        "id": "owner/tiny",
        "revision": None,
        "fingerprint": "c" * 64,
        "architecture": {"model_type": "llama", "vocab_size": 259, "hidden_size": 32},
    },
    "tokenizer": {"vocabulary": "0" * 64, "template": "8" * 64},
    "precision": {"dtype": "float32", "autocast": False, "attn_implementation": "eager", "quantization": None},
    "dataset": {"train": "1" * 64, "validation": "2" * 64},
    "votes": {"id": None, "revision": None, "license": "apache-2.0"},
    "fold": 1,
    "merged": ["runs/fold0", "runs/fold1"],
    "command": "recipes/sft.py smollm2.yaml",
    "configuration": {"max_length": 700},
    "versions": {"lmsys-trl": "0.1.0", "torch": "2.13.0"},
    "calibration": {
        "ab": {
            "method": "temperature",
            "temperature": 1.2,
            "biases": [0.0, 0.0, 0.0],
            "num_battles": 100,
            "num_groups": 50,
            "log_loss_before": 1.0,
            "log_loss_after": 0.99,
            "fitted_on": "3" * 64,
        }
    },
}


def write(folder, content):
    folder.mkdir(exist_ok=True)
    (folder / "judge.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def changed(*keys, value=None, **more):
    """What was written without an entry, or with another value of it, or with more keys."""
    content = copy.deepcopy(WRITTEN)
    *outer, last = keys or ("fold",)
    inner = content
    for key in outer:
        inner = inner[key]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return content | more


def test_files_of_earlier_versions(tmp_path):
    judge_file = JudgeFile.load(write(tmp_path / "judge", WRITTEN))
    complete = WRITTEN | {"head": "lm_head", "earlier": []}
    assert vars(judge_file) == complete
    assert judge_file.token_ids == [35, 36, 37]
    judge_file.save(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "judge.json").read_text()) == complete
    fresh = {key: WRITTEN[key] for key in list(WRITTEN)[:8]}  # without what is added after training
    judge_file = JudgeFile.load(write(tmp_path / "judge", fresh))
    assert judge_file.fold is None and judge_file.calibration == {} and judge_file.merged is None
    assert JudgeFile.load(write(tmp_path / "judge", changed("base_model", "revision"))).base_model["id"]


@pytest.mark.parametrize(
    "content, problem",
    [
        (changed("temperature"), "judge.json lacks temperature. Train it again, or give the adapter to lmsys-trl"),
        (changed("tokenizer", "template"), "judge.json lacks tokenizer.template"),
        (changed("letters", "tie"), "judge.json lacks letters.tie"),
        (changed("precision", value="float32"), "judge.json has a bad precision: input should be"),
        (changed("temperature", value=float("nan")), "has a bad temperature: input should be a finite number"),
        (changed("temperature", value=0), "has a bad temperature: input should be greater than 0"),
        (changed("temperature", value="hot"), "has a bad temperature: input should be a valid number, found 'hot'"),
        (changed("calibration", "ab", "temperature", value=float("inf")), "has a bad calibration.ab.temperature"),
        (changed("calibration", "ab", "biases", value=[0.0, float("nan"), 0.0]), "has a bad calibration.ab.biases.1"),
        (changed("calibration", "ab", "biases", value=[0.0]), "has a bad calibration.ab.biases: list should have"),
        (changed("letters", "tie", "id", value=36), "has the same token for several letters: [35, 36, 36]"),
        (changed("letters", "tie", "id", value=-1), "has a bad letters.tie.id"),
        (changed("max_length", value=0), "has a bad max_length"),
        (changed("max_length", value="700"), "has a bad max_length: input should be a valid integer"),
        (changed("precision", "attn_implementation", value="owner/kernel"), "has a bad precision.attn_implementation"),
        (changed("precision", "dtype", value="int8"), "has a bad precision.dtype"),
        (changed("precision", "quantization", value={"other": "x"}), "has unknown keys: precision.quantization"),
        (changed("fold", value="first"), "has a bad fold"),
        (
            changed(thresholds=[1]),
            "has unknown keys: thresholds. Install the lmsys-trl that wrote it (0.1.0)",
        ),
        (changed("max_length", thresholds=[1]), "2 problems"),
        ("{", "judge.json: damaged: Expecting"),
        ("[]", "judge.json: damaged: expected a JSON object"),
    ],
)
def test_files_that_are_refused(content, problem, tmp_path):
    with pytest.raises(ValueError) as error:
        JudgeFile.load(write(tmp_path / "judge", content))
    assert problem in str(error.value) and "judge.json" in str(error.value)


def test_all_folders_that_are_not_judges_are_reported(tmp_path):
    judge = write(tmp_path / "judge", WRITTEN)
    (tmp_path / "training").mkdir()
    assert load_judge_files([str(judge), str(judge)]).keys() == {str(judge)}
    with pytest.raises(ValueError) as error:
        load_judge_files([str(tmp_path / "none"), str(judge), str(tmp_path / "training")])
    message = str(error.value)
    assert "2 problems" in message and "none: there is no such folder" in message
    assert "training: no judge.json; has its training finished?" in message and "damaged" not in message


def test_what_two_judges_must_share():
    first = JudgeFile(**WRITTEN)
    assert first.differences(JudgeFile(**changed("base_model", "id", value="models/tiny"))) == []  # the same weights
    assert first.differences(JudgeFile(**changed("fold"))) == []
    other = changed("base_model", value={**WRITTEN["base_model"], "id": None, "fingerprint": "d" * 64})
    other |= {"prompt_version": "v2", "tokenizer": {"vocabulary": "4" * 64, "template": "5" * 64}}
    other["letters"]["tie"]["id"] = 38
    assert first.differences(JudgeFile(**other)) == [
        "prompt_version: v2, not lmsys-38th-v1",
        "letters: A (token 35), B (token 36), C (token 38), not A (token 35), B (token 36), C (token 37)",
        "vocabulary of the tokenizer: 444444444444, not 000000000000",
        "chat template: 555555555555, not 888888888888",
        "base model: a local folder (weights dddddddddddd), not owner/tiny (weights cccccccccccc)",
    ]
