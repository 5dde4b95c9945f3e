import numpy as np
import pytest
from scipy.special import softmax

from lmsys_trl.data.synthetic import make_battles
from lmsys_trl.metrics import score
from lmsys_trl.predictions.baselines import baseline_predictions, style_regression
from lmsys_trl.predictions.features import (
    FEATURES,
    battle_features,
    features_table,
    load_features,
    load_training_prompts,
    save_features,
)
from lmsys_trl.predictions.style import style_logits


def test_baselines_on_the_judges_training_votes():
    training, table = features_table(make_battles(400, seed=1)), features_table(make_battles(300, seed=2))
    predictions, fitted_on = baseline_predictions(table, training)
    assert fitted_on == "fitted on the 400 training votes"
    labels = np.array([["model_a", "model_b", "tie"].index(winner) for winner in table["winner"]])
    losses = {name: score(probabilities, labels)["log_loss"] for name, probabilities in predictions.items()}
    assert losses["uniform"] == pytest.approx(np.log(3))
    assert losses["logistic_regression"] < losses["class_prior"] < losses["uniform"]
    for probabilities in predictions.values():
        assert np.allclose(probabilities.sum(axis=1), 1)
    fraction_of_a = (sum(training["winner"] == "model_a") + 1) / 403
    assert np.allclose(predictions["class_prior"][:, 0], fraction_of_a)


def test_baselines_without_training_votes_are_cross_fitted_by_prompt():
    table = features_table(make_battles(300, seed=2))
    predictions, fitted_on = baseline_predictions(table, None)
    assert fitted_on == "cross-fitted by prompt on the 300 votes of this report, in 5 folds"
    assert len(np.unique(predictions["class_prior"][:, 0])) > 1  # another prior for each fold
    one, _ = baseline_predictions(table.iloc[:1], None)
    assert np.allclose(one["logistic_regression"], 1 / 3)
    two_classes = table[table["winner"] != "tie"]
    predictions, _ = baseline_predictions(table, two_classes)
    assert np.allclose(predictions["logistic_regression"].sum(axis=1), 1)


def test_the_regression_as_numbers_is_the_baseline():
    training, table = features_table(make_battles(400, seed=1)), features_table(make_battles(300, seed=2))
    regression = style_regression(training)
    logits = style_logits(table[list(FEATURES)].to_numpy(), regression) + regression["biases"]
    expected = baseline_predictions(table, training)[0]["logistic_regression"]
    assert softmax(logits, axis=1) == pytest.approx(expected, abs=1e-9)
    assert style_regression(training[training["winner"] != "tie"]) is None
    assert style_regression(training.drop(columns=FEATURES[0])) is None


def test_features_hold_no_text_and_change_their_sign_when_swapped():
    features = features_table([make_battles(1)[0]])
    assert list(features.select_dtypes("number").columns) == [c for c in features if c not in ("winner", "group")]
    longer = battle_features({"prompt": ["p"], "response_a": ["- a\n- b"], "response_b": [None]})
    other = battle_features({"prompt": ["p"], "response_a": [None], "response_b": ["- a\n- b"]})
    assert longer["length_difference"] == -other["length_difference"] > 0
    assert longer["list_items_difference"] == -other["list_items_difference"] > 0


def test_saved_features_are_those_of_the_battles(tmp_path):
    assert load_features(tmp_path) is None
    battles = make_battles(20)
    save_features(iter(battles), tmp_path)
    assert load_features(tmp_path).equals(features_table(battles))
    assert [path.name for path in tmp_path.iterdir()] == ["baseline_features.parquet"]


def test_a_prompt_is_the_same_from_a_file_and_from_a_data_set():
    """A file's reader tells the user's text from a system text before it, which a data set does not."""
    (battle,) = make_battles(1)
    in_data_set = battle | {"prompt": ["Be brief.\n\nWhy?"], "group": "given"}
    in_file = in_data_set | {"first_prompt": "Why?", "group": None}
    groups = features_table([in_data_set, in_file])["group"]
    assert groups[0] == groups[1]


def test_prompts_of_all_stages_of_a_training(tmp_path):
    for name in ("first", "second", "third"):
        (tmp_path / name).mkdir()
    battles = make_battles(7)
    save_features(battles[:3], tmp_path / "first")
    save_features(battles[3:], tmp_path / "second", tmp_path / "first")
    assert load_features(tmp_path / "second").equals(features_table(battles[3:]))  # which baselines are fitted on
    save_features(battles[:1], tmp_path / "third", tmp_path / "second")
    assert load_training_prompts(tmp_path / "third") == set(features_table(battles)["group"])
