"""Adapters whose tensors are not those that the base model has a place for."""

import json
import shutil

import pytest
from helpers.models import build_judge
from safetensors.torch import load_file, save_file

from lmsys_trl import Judge
from lmsys_trl.errors import UserError
from lmsys_trl.models.adapter_weights import attach_adapter
from lmsys_trl.models.base import load_base
from lmsys_trl.models.merge import average_adapters

BATTLE = {"prompt": "p", "response_a": "a", "response_b": "b"}


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory):
    return build_judge(base, tmp_path_factory.mktemp("judge"))


def changed(adapter, folder, change, **config):
    """A copy of an adapter with other tensors or another configuration."""
    shutil.copytree(adapter, folder)
    path = folder / "adapter_model.safetensors"
    save_file(change(load_file(path)), path, {"format": "pt"})
    settings = json.loads((folder / "adapter_config.json").read_text()) | config
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


def renamed(old, new):
    return lambda tensors: {name.replace(old, new): tensor for name, tensor in tensors.items()}


def kept(part):
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if part in name}


WRONG = {
    "other names": (renamed("layers.", "blocks."), {}, "8 of its tensors have no place in the base model: base_model"),
    "half of them": (kept("layers.1"), {}, "4 tensors are missing in it: base_model.model.model.layers.0"),
    "none of B": (kept("lora_A"), {}, "4 tensors are missing"),
    "another rank": (lambda tensors: tensors, {"r": 2}, "8 of its tensors have another shape"),
    "other targets": (renamed("v_proj", "k_proj"), {}, "4 of its tensors have no place"),
    "targets not there": (lambda tensors: tensors, {"target_modules": ["nothing"]}, "does not fit the base model"),
    "a score head": (lambda tensors: tensors, {"task_type": "SEQ_CLS"}, "is a LORA for SEQ_CLS. A judge is a LORA"),
    "another method": (lambda tensors: tensors, {"peft_type": "IA3"}, "is a IA3 for CAUSAL_LM. A judge is a LORA"),
    "modules of its own": (
        lambda tensors: {**tensors, "base_model.model.score.weight": tensors[min(tensors)].clone()},
        {"modules_to_save": ["score"]}, "1 of its tensors have no place in the base model: base_model.model.score",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused(name, adapter, base, tmp_path):
    change, config, problem = WRONG[name]
    folder = changed(adapter, tmp_path / "changed", change, **config)
    with pytest.raises(UserError) as error:
        Judge.from_pretrained(folder, str(base))
    assert problem in str(error.value) and str(folder) in str(error.value)
    judge = Judge.from_pretrained(adapter, str(base))
    with pytest.raises(UserError):
        Judge.from_pretrained(folder, str(base), share_base_with=judge)
    with pytest.raises(UserError):
        attach_adapter(load_base(base, "float32", "eager"), folder, is_trainable=True)
    with pytest.raises(UserError):
        average_adapters([adapter, folder], "mean")


@pytest.mark.parametrize("wrapper", ["_orig_mod.", "language_model."])
def test_known_wrappers_are_removed(wrapper, adapter, base, tmp_path):
    folder = changed(adapter, tmp_path / "wrapped", renamed("model.layers", f"model.{wrapper}layers"))
    expected = Judge.from_pretrained(adapter, str(base)).predict(**BATTLE)
    assert Judge.from_pretrained(folder, str(base)).predict(**BATTLE) == expected


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_damaged_files(name, adapter, base, tmp_path):
    folder = shutil.copytree(adapter, tmp_path / "damaged")
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=f"{name} is damaged"):
        Judge.from_pretrained(folder, str(base))


def test_cat_is_for_matrices_only(adapter, base, tmp_path):
    folders = [
        changed(
            adapter, tmp_path / name,
            lambda tensors: {**tensors, "base_model.model.lm_head.weight": tensors[min(tensors)].clone()},
            modules_to_save=["lm_head"],
        )
        for name in "ab"
    ]  # fmt: skip
    with pytest.raises(UserError, match="cat is for matrices A and B only"):
        average_adapters(folders, "cat")
