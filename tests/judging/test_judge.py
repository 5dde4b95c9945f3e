"""Loading a judge: on its own base model, on another one, on a wrong one."""

import json
import shutil

import pytest
import torch
from helpers.models import build_base, build_judge, build_tokenizer
from peft import PeftModel

from lmsys_trl import Judge
from lmsys_trl.battle import WINNERS, swap_battle
from lmsys_trl.data.synthetic import make_battles
from lmsys_trl.encoding.examples import encode_battle
from lmsys_trl.models.adapter import JUDGE_FILE
from lmsys_trl.models.base import find_local_base, load_base, weights_fingerprint

NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "float32"}


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory):
    return build_judge(base, tmp_path_factory.mktemp("judge"))


@pytest.fixture(scope="module")
def judge(adapter, base):
    return Judge.from_pretrained(adapter, str(base))


@pytest.mark.parametrize("also", ["v_proj", "embed_tokens", "lm_head"])
def test_predictions_are_those_of_the_bare_model(also, tmp_path):
    """Whether the adapter is added to the weights, or not, since embeddings and head share theirs."""
    base = build_base(tmp_path / "base", tie_word_embeddings=True, initializer_range=0.2)
    adapter = build_judge(base, tmp_path / "judge", target_modules=["q_proj", also])
    judge, battles = Judge.from_pretrained(adapter, str(base)), make_battles(5)
    model = PeftModel.from_pretrained(load_base(base, "float32", "eager"), str(adapter)).eval()
    head = judge.model.get_output_embeddings()
    predictions = judge.predict_battles(battles, tta="swap", max_tokens_per_batch=1500, progress=False)
    assert [(p["id"], p["order"]) for p in predictions] == [
        (b["id"], order) for b in battles for order in ("ab", "ba", "mean")
    ]
    for battle, as_given, swapped, mean in zip(
        battles, predictions[::3], predictions[1::3], predictions[2::3], strict=True
    ):
        for prediction, shown in ((as_given, battle), (swapped, swap_battle(battle))):
            (*_, example) = encode_battle({**shown, "vote": None}, judge.tokenizer, 650)
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([example["input_ids"]])).logits[0, -1]
            p = torch.stack([logits[judge.tokenizer.convert_tokens_to_ids(letter)] for letter in "ABC"])
            p = (p / 1.03).softmax(-1).tolist()
            expected = p if prediction is as_given else [p[1], p[0], p[2]]
            assert [prediction[f"winner_{w}"] for w in WINNERS] == pytest.approx(expected, abs=1e-5)
            assert prediction["num_tokens"] <= 648
        for winner in WINNERS:
            average = (as_given[f"winner_{winner}"] + swapped[f"winner_{winner}"]) / 2
            assert mean[f"winner_{winner}"] == pytest.approx(average)
    assert len({round(p["winner_model_a"], 4) for p in predictions}) > 5
    assert judge.model.get_output_embeddings() is head
    assert judge.model.get_model_status().merged_adapters == (["default"] if also == "v_proj" else [])


def test_batches_do_not_change_predictions(judge):
    battles = make_battles(12)
    one, other = (judge.predict_battles(battles, max_tokens_per_batch=n, progress=False) for n in (1, 10**6))
    for a, b in zip(one, other, strict=True):
        assert a["winner_model_a"] == pytest.approx(b["winner_model_a"], abs=1e-5)


def test_the_base_is_found_by_its_weights(adapter, base, tmp_path, monkeypatch):
    build_base(tmp_path / "models" / "another", seed=1)
    shutil.copytree(base, tmp_path / "models" / "renamed")
    monkeypatch.chdir(tmp_path)
    assert find_local_base(weights_fingerprint(base)).name == "renamed"
    Judge.from_pretrained(adapter)
    shutil.rmtree(tmp_path / "models" / "renamed")
    with pytest.raises(ValueError, match="base model owner/tiny: there is no such folder"):
        Judge.from_pretrained(adapter)


def test_other_weights_warn_and_are_named(adapter, tmp_path):
    other = build_base(tmp_path / "other", seed=1)
    with pytest.warns(UserWarning, match="owner/tiny with fingerprint .* and .*other has"):
        Judge.from_pretrained(adapter, str(other))


def test_another_model_tokenizer_or_template_is_refused(adapter, base, tmp_path):
    larger = build_base(tmp_path / "larger", num_hidden_layers=3)
    with pytest.raises(ValueError, match="num_hidden_layers 3 instead of 2"):
        Judge.from_pretrained(adapter, str(larger))
    templated = shutil.copytree(base, tmp_path / "templated")
    tokenizer = build_tokenizer()
    tokenizer.chat_template = tokenizer.chat_template.replace("assistant", "judge")
    tokenizer.save_pretrained(templated)
    with pytest.raises(ValueError, match="(?s)the tokenizer of base model .*templated is not the one .* template "):
        Judge.from_pretrained(adapter, str(templated))
    changed = shutil.copytree(adapter, tmp_path / "changed")
    tokenizer.save_pretrained(changed)
    with pytest.raises(ValueError, match="the tokenizer in .*changed is not the one"):
        Judge.from_pretrained(changed, str(base))


def test_folders_that_are_not_a_judge(adapter, base, tmp_path):
    with pytest.raises(ValueError, match="there is no such folder"):
        Judge.from_pretrained(tmp_path / "none", str(base))
    with pytest.raises(ValueError, match="has its training finished"):
        Judge.from_pretrained(tmp_path, str(base))
    pickled = shutil.copytree(adapter, tmp_path / "pickled")
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    with pytest.raises(ValueError, match="Pickled adapters are not loaded"):
        Judge.from_pretrained(pickled, str(base))
    settings = json.loads((adapter / JUDGE_FILE).read_text())
    (pickled / JUDGE_FILE).write_text(json.dumps({**settings, "prompt_version": "other"}))
    with pytest.raises(ValueError, match="prompt version other"):
        Judge.from_pretrained(pickled, str(base))


def test_turns_must_match(judge):
    with pytest.raises(ValueError, match="all must have the same number"):
        judge.predict(prompt=["p"], response_a=["a", "b"], response_b=["b"])
    with pytest.raises(ValueError, match="tta: expected none, swap, .* found 'twice'"):
        judge.predict(prompt=["p"], response_a=["a"], response_b=["b"], tta="twice")


def test_four_bits(tmp_path):
    """bitsandbytes quantises on the CPU too: predictions are near those of the full weights, and not the same."""
    base = build_base(tmp_path / "base", hidden_size=64, intermediate_size=128)  # it wants multiples of 64
    battles = make_battles(3)
    full, quantized = (build_judge(base, tmp_path / name, q) for name, q in (("full", None), ("nf4", NF4)))
    one, other = (
        Judge.from_pretrained(j, str(base)).predict_battles(battles, progress=False) for j in (full, quantized)
    )
    differences = [abs(a["winner_model_a"] - b["winner_model_a"]) for a, b in zip(one, other, strict=True)]
    assert 0 < max(differences) < 0.2
