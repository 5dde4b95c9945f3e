"""Loading a judge: on its own base model, on another one, on a wrong one."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from helpers.models import build_base, build_judge, build_tokenizer
from peft import PeftModel

from lmsys_trl import Judge
from lmsys_trl.battle import WINNERS, swap_battle
from lmsys_trl.data.synthetic import make_battles
from lmsys_trl.encoding.examples import encode_battle
from lmsys_trl.errors import UserError
from lmsys_trl.models.adapter import JUDGE_FILE
from lmsys_trl.models.base import find_local_base, load_base, remember_base, weights_fingerprint
from lmsys_trl.predictions.table import PROBABILITIES

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


def test_the_base_is_found_where_it_was_at_training(adapter, base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = shutil.copytree(adapter, tmp_path / "judge")
    elsewhere = shutil.copytree(base, tmp_path / "elsewhere")
    remember_base(folder, elsewhere)
    Judge.from_pretrained(folder)
    build_base(elsewhere, seed=1)  # now other weights
    with pytest.raises(UserError, match="base model owner/tiny: there is no such folder"):
        Judge.from_pretrained(folder)


def test_other_weights_warn_and_are_named(adapter, tmp_path):
    other = build_base(tmp_path / "other", seed=1)
    with pytest.warns(UserWarning, match="owner/tiny with fingerprint .* and .*other has"):
        Judge.from_pretrained(adapter, str(other))


def test_another_model_tokenizer_or_template_is_refused(adapter, base, tmp_path):
    larger = build_base(tmp_path / "larger", num_hidden_layers=3)
    with pytest.raises(ValueError, match="num_hidden_layers 3 instead of 2"):
        Judge.from_pretrained(adapter, str(larger))
    templated = build_base(tmp_path / "templated", seed=1)
    tokenizer = build_tokenizer()
    tokenizer.chat_template = tokenizer.chat_template.replace("assistant", "judge")
    tokenizer.save_pretrained(templated)
    with (
        pytest.warns(UserWarning, match="trained on other weights"),
        pytest.raises(ValueError, match="(?s)the tokenizer of base model .*templated is not the one .* template "),
    ):
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
    with pytest.raises(ValueError, match="lmsys-trl import makes one of an adapter_model.bin"):
        Judge.from_pretrained(pickled, str(base))
    settings = json.loads((adapter / JUDGE_FILE).read_text())
    stranger = shutil.copytree(adapter, tmp_path / "stranger")
    architecture = {**settings["base_model"]["architecture"], "made_up": 7}
    stranger_settings = {**settings, "base_model": {**settings["base_model"], "architecture": architecture}}
    (stranger / JUDGE_FILE).write_text(json.dumps(stranger_settings))
    with pytest.raises(ValueError, match="made_up None instead of 7"):
        Judge.from_pretrained(stranger, str(base))
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


def test_letters_that_are_not_those_of_the_tokenizer(adapter, base, tmp_path):
    changed = shutil.copytree(adapter, tmp_path / "changed")
    settings = json.loads((adapter / JUDGE_FILE).read_text())
    for token in (999_999, settings["letters"]["tie"]["id"] + 1):
        settings["letters"]["tie"]["id"] = token
        (changed / JUDGE_FILE).write_text(json.dumps(settings))
        with pytest.raises(UserError, match=f"judge.json says that token {token} is 'C'"):
            Judge.from_pretrained(changed, str(base))


def test_a_changed_normalizer_is_another_tokenizer(adapter, base, tmp_path):
    changed = shutil.copytree(adapter, tmp_path / "changed")
    content = json.loads((changed / "tokenizer.json").read_text())
    content["normalizer"] = {"type": "Lowercase"}
    (changed / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="the tokenizer in .*changed is not the one"):
        Judge.from_pretrained(changed, str(base))


def test_texts_lists_tables_and_datasets_are_the_same(judge):
    battles = [
        {"id": f"b{i}", "prompt": p, "response_a": "one\ntwo" * i, "response_b": "\N{GREEK SMALL LETTER PI}"}
        for i, p in enumerate(("Count!", "Pi?", ""), 1)
    ]
    as_lists = [{key: value if key == "id" else [value] for key, value in battle.items()} for battle in battles]
    expected = judge.predict_dataset(as_lists)[PROBABILITIES].to_numpy().tolist()
    table = pd.DataFrame(battles)
    for given in (battles, table, pd.DataFrame(as_lists), Dataset.from_list(battles), Dataset.from_list(as_lists)):
        assert judge.predict_dataset(given)[PROBABILITIES].to_numpy().tolist() == expected
    alone = [judge.predict(**{key: value for key, value in battle.items() if key != "id"}) for battle in battles]
    assert [list(prediction.values()) for prediction in alone] == pytest.approx(np.array(expected), abs=1e-6)
    voted = judge.predict_dataset(pd.DataFrame([{**row, "vote": vote} for row, vote in zip(
        battles, ([0, 1, 0], None, float("nan")), strict=True)]))  # fmt: skip
    assert list(voted["winner"].fillna("")) == ["model_b", "", ""]
    with pytest.raises(UserError, match="vote: expected the fractions of A, B and tie, found 'A'"):
        judge.predict_dataset([{**row, "vote": "A"} for row in battles])
    with pytest.raises(UserError, match="max_length: expected 1 or more"):
        judge.predict_dataset(battles, max_length=0)
    with pytest.raises(UserError, match="tta: expected none, swap"):
        judge.predict_dataset(battles, tta=None)
    table.loc[1, "response_a"] = None
    assert judge.predict_dataset(table)["winner_tie"].notna().all()


@pytest.mark.parametrize(
    "text, problem",
    [
        ([{"role": "user", "content": "p"}], "prompt: expected a text, or a list with one text a turn, found"),
        ({"role": "user"}, "prompt: expected a text"),
        (3, "prompt: expected a text"),
        ([["p"]], "prompt: expected a text"),
    ],
)
def test_what_is_not_a_text_is_refused(judge, text, problem):
    battles = [{"id": f"b{i}", "prompt": text, "response_a": "a", "response_b": "b"} for i in range(2)]
    with pytest.raises(UserError) as error:
        judge.predict_battles(battles)
    assert f"battle b0: {problem}" in str(error.value) and f"battle b1: {problem}" in str(error.value)
    with pytest.raises(UserError, match="its texts are JSON lists"):
        judge.predict(prompt='["p"]', response_a='["a"]', response_b='["b"]')
    with pytest.raises(UserError, match="expected a list of dicts, a DataFrame or a Dataset"):
        judge.predict_battles("battles")


@pytest.mark.parametrize(
    ("precision", "problem"),
    [
        ({"load_in_4bit": True, "dtype": "bfloat16"}, "precision: unknown load_in_4bit. It has attn_implementation, "),
        ({"dtype": "float5"}, "cannot be loaded with .*float5"),
    ],
)
def test_a_precision_that_there_is_not(adapter, base, precision, problem):
    with pytest.raises(UserError, match=problem):
        Judge.from_pretrained(adapter, str(base), precision)


def test_ids_that_occur_twice_are_refused(judge):
    texts = {"prompt": "a", "response_a": "b", "response_b": "c"}
    with pytest.raises(ValueError, match="1 ids are given more than once, such as 1"):
        judge.predict_battles([{"id": "1", **texts}, {**texts}])


def test_threads_share_a_judge(judge, adapter, base, tmp_path):
    """Exactly what one thread gets, from one judge, and from two that share a base model."""
    battles = make_battles(20)
    first = Judge.from_pretrained(adapter, str(base))
    second = Judge.from_pretrained(build_judge(base, tmp_path / "b", seed=5), str(base), share_base_with=first)

    def predict(i):
        texts = {column: battles[i % 20][column] for column in ("prompt", "response_a", "response_b")}
        return (judge, first, second)[i % 3].predict(**texts)

    expected = [predict(i) for i in range(60)]
    assert len({str(prediction) for prediction in expected}) > 30
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(predict, [*range(60)] * 2)) == expected * 2
