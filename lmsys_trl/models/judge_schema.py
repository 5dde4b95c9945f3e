"""What each key of `judge.json` may be. The file may come from anywhere: nothing in it reaches a loader unchecked."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..battle import WINNERS
from ..options import Attention, Head
from ..predictions.features import FEATURES

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Fold = Annotated[int, Field(ge=0)]
DType = Literal["auto", "bfloat16", "float16", "float32"]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class _Letter(_Strict):
    letter: str
    id: Annotated[int, Field(ge=0)]


class _Letters(_Strict):
    model_a: _Letter
    model_b: _Letter
    tie: _Letter


class _BaseModel(_Strict):
    id: str | None
    revision: str | None = None
    fingerprint: str
    architecture: dict[str, Any]


class _Tokenizer(_Strict):
    vocabulary: str
    template: str
    pipeline: str | None = None


class _Quantization(_Strict):
    load_in_4bit: bool = False
    load_in_8bit: bool = False
    bnb_4bit_compute_dtype: DType | None = None
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = "nf4"
    bnb_4bit_use_double_quant: bool = False
    bnb_4bit_quant_storage: Literal["uint8", "bfloat16", "float16", "float32"] | None = None


class _Precision(_Strict):
    dtype: DType | None
    autocast: bool | None
    attn_implementation: Attention | None
    quantization: _Quantization | None


class _Style(_Strict):
    features: list[str]
    mean: list[Finite]
    scale: list[Positive]
    weights: Annotated[list[list[Finite]], Field(min_length=3, max_length=3)]

    @model_validator(mode="after")
    def _check_sizes(self) -> "_Style":
        if self.features != list(FEATURES):
            raise ValueError(f"expected the features {', '.join(FEATURES)}: calibrate it again")
        if {len(self.mean), len(self.scale), *map(len, self.weights)} != {len(FEATURES)}:
            raise ValueError("expected a number for each feature")
        return self


class _Calibration(BaseModel):
    temperature: Positive
    biases: Annotated[list[Finite], Field(min_length=3, max_length=3)]
    style: _Style | None = None


class _Stage(_Strict):
    dataset: dict[str, str]
    fold: Fold | None


class _Judge(_Strict):
    """As [`JudgeFile`], whose fields are documented there."""

    prompt_version: str
    letters: _Letters
    max_length: Count
    inference_max_length: Count
    temperature: Positive
    base_model: _BaseModel
    tokenizer: _Tokenizer
    precision: _Precision
    head: Head = "lm_head"
    dataset: dict[str, str] = {}
    votes: dict[str, Any] = {}
    fold: Fold | None = None
    earlier: list[_Stage] = []
    calibration: dict[Literal["position", "ab", "mean"], _Calibration] = {}
    merged: list[str] | None = None
    command: str | None = None
    configuration: dict[str, Any] = {}
    versions: dict[str, str] = {}


def find_problems(content: dict) -> list[str]:
    """What is wrong with the content of `judge.json`, a line each, to be read after its name."""
    try:
        judge = _Judge.model_validate(content)
    except ValidationError as error:
        return list(_lines(error, content))
    ids = [getattr(judge.letters, winner).id for winner in WINNERS]
    return [] if len(set(ids)) == len(ids) else [f"has the same token for several letters: {ids}"]


def _lines(error: ValidationError, content: dict) -> Iterator[str]:
    names: dict[str, list[str]] = {"missing": [], "extra_forbidden": []}
    for detail in error.errors():
        key = ".".join(map(str, detail["loc"]))
        if detail["type"] in names:
            names[detail["type"]].append(key)
        else:
            message = detail["msg"]
            yield f"has a bad {key}: {message[:1].lower()}{message[1:]}, found {detail['input']!r:.100}"
    if names["missing"]:
        yield f"lacks {', '.join(names['missing'])}. Train it again, or give the adapter to lmsys-trl import"
    if names["extra_forbidden"]:
        versions = content.get("versions")
        version = versions.get("lmsys-trl") if isinstance(versions, dict) else None
        yield (
            f"has unknown keys: {', '.join(names['extra_forbidden'])}. Install the lmsys-trl that wrote it "
            f"({version or 'of another version'})"
        )
