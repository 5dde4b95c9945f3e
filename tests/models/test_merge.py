"""Averages of adapters: what they must share, and what becomes of judge.json."""

import json
from shutil import copytree, make_archive

import pytest
from helpers.models import build_base, build_judge
from helpers.run import recipe

from lmsys_trl import Judge
from lmsys_trl.models.base import remember_base
from lmsys_trl.models.judge_file import JudgeFile
from lmsys_trl.models.merge import average_adapters


def test_all_in_which_adapters_differ_is_reported(base, tmp_path):
    first = build_judge(base, tmp_path / "first")
    larger = copytree(first, tmp_path / "larger")
    config = json.loads((larger / "adapter_config.json").read_text())
    (larger / "adapter_config.json").write_text(json.dumps(config | {"r": 8, "target_modules": ["q_proj"]}))
    other = build_judge(build_base(tmp_path / "base", seed=1), tmp_path / "other")
    with pytest.raises(ValueError) as error:
        average_adapters([first, larger, other], "mean")
    title, *problems = str(error.value).splitlines()
    assert title.startswith("adapter: these cannot be averaged") and len(problems) == 3
    assert problems[0].endswith("larger: r: 8, not 4")
    assert problems[1].endswith("larger: target_modules: q_proj, not q_proj v_proj")
    assert "other: base model: owner/tiny (weights " in problems[2]
    with pytest.raises(ValueError, match="expected two or more to average, found 1"):
        average_adapters([first], "mean")


def test_the_average_is_a_judge_of_its_own(base, tmp_path):
    """From a folder and a zip archive; what is true of one of them alone is dropped."""
    first, second = (build_judge(base, tmp_path / name, seed=seed) for seed, name in enumerate(("one", "two")))
    judge_file = JudgeFile.load(first)
    judge_file.fold, judge_file.calibration = 0, {"ab": {"temperature": 2.0, "biases": [0.0, 0.0, 0.0]}}
    judge_file.save(first)
    make_archive(tmp_path / "two", "zip", second)
    remember_base(first, base)
    output = recipe("merge.py", "--adapter", "one", "two.zip", "--output_dir", "mean", cwd=tmp_path)
    Judge.from_pretrained(tmp_path / "mean")  # from the base model's folder, which is not in models/
    assert "The average of 2 adapters is in mean" in output and "Next: lmsys-trl predict --adapter mean" in output
    average = JudgeFile.load(tmp_path / "mean")
    assert average.merged == ["one", "two.zip"] and average.fold is None and average.calibration == {}
    assert average.configuration["adapter"] == ["one", "two.zip"] and average.versions["peft"]
    assert not average.differences(JudgeFile.load(second))
    options = ["--adapter", "one", "none", "--output_dir", "one", "--test_file", "x.csv", "--dataset_name", "data"]
    output = recipe("merge.py", *options, cwd=tmp_path, fails=True)
    assert "2 problems" in output and "one exists already" in output and "test_file, dataset_name" in output
