"""A name -> a folder with an adapter: a folder, a repository on the Hub, a zip archive, a data set on Kaggle."""

import re
import tempfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from huggingface_hub.constants import HF_HOME

from ..artifacts import file_fingerprint
from ..data.downloads import download
from ..data.files import READ_ERRORS
from ..errors import UserError
from ..hub import download_repository

if TYPE_CHECKING:  # peft takes seconds to import, and pushing a judge needs none of it
    from peft import LoraConfig

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
PICKLED_WEIGHTS = "adapter_model.bin"  # of adapters made elsewhere: only import reads it
JUDGE_FILE = "judge.json"
# All that is pushed: no pickles, no checkpoints.
ADAPTER_FILES = (
    ADAPTER_CONFIG, ADAPTER_WEIGHTS, JUDGE_FILE, "tokenizer.json", "tokenizer_config.json", "tokenizer.model",
    "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "vocab.json", "merges.txt", "probes.json",
)  # fmt: skip
DOWNLOADED = (*ADAPTER_FILES, PICKLED_WEIGHTS)


def resolve_adapter(name: str | Path) -> Path:
    """
    The folder with an adapter's files.

    Args:
        name (`str` or `Path`): A folder; `owner/name[@revision]` on the Hub; `file.zip`; or `kaggle:owner/name`. If an
            archive or a Kaggle data set holds several adapters, followed by the folder in it: `file.zip/gemma`.

    Raises:
        UserError: If there is no adapter, or more than one.
    """
    path = Path(name)
    if path.is_dir():
        return path
    if str(name).startswith("kaggle:"):
        owner, _, rest = str(name).partition("/")
        dataset, _, inside = rest.partition("/")
        return _find_adapter(download(f"{owner}/{dataset}" if dataset else owner)[0] / inside, name)
    for archive in (path, *path.parents):
        if archive.suffix.lower() == ".zip" and archive.is_file():
            return _find_adapter(_unpack(archive) / path.relative_to(archive), name)
    if not re.fullmatch(r"[^/@]+/[^/@]+(@[^@]+)?", str(name)):
        raise UserError(
            f"adapter {name}: there is no such folder. Name one, owner/name[@revision] on the Hub, file.zip, or "
            "kaggle:owner/name"
        )
    repo_id, _, revision = str(name).partition("@")
    try:
        folder = download_repository(repo_id, "model", revision or None, list(DOWNLOADED))
    except UserError as error:
        raise UserError(f"adapter {name}: there is no such folder, and as a {error}") from error
    return _find_adapter(folder, name)


def lora_differences(wanted: "LoraConfig", other: "LoraConfig") -> list[str]:
    """In what another LoRA configuration differs that two adapters must share: a line each."""
    keys = ("r", "lora_alpha", "target_modules", "layers_to_transform", "use_rslora", "use_dora", "bias",
            "modules_to_save")  # fmt: skip
    pairs = {key: (getattr(wanted, key), getattr(other, key)) for key in keys}
    return [
        f"{key}: {_format(theirs)}, not {_format(ours)}" for key, (ours, theirs) in pairs.items() if theirs != ours
    ]


def _format(value) -> str:
    return " ".join(sorted(value)) if isinstance(value, set) else str(value)


def _find_adapter(folder: Path, name: str | Path) -> Path:
    """The only folder with an adapter in a folder."""
    if (folder / ADAPTER_CONFIG).is_file():
        return folder
    adapters = sorted(config.parent for config in folder.rglob(ADAPTER_CONFIG))
    if not adapters:
        raise UserError(f"adapter {name}: there is no {ADAPTER_CONFIG} in it")
    if len(adapters) > 1:
        names = ", ".join(f"{name}/{adapter.relative_to(folder).as_posix()}" for adapter in adapters)
        raise UserError(f"adapter {name}: holds {len(adapters)} adapters. Name one of them: {names}")
    return adapters[0]


def _unpack(archive: Path) -> Path:
    """A folder with the files of an archive's adapters, unpacked once for each content."""
    folder = Path(HF_HOME) / "lmsys_trl" / "archives" / file_fingerprint(archive)
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        draft = Path(scratch) / "draft"
        draft.mkdir()
        try:
            with zipfile.ZipFile(archive) as packed:
                for member in packed.namelist():
                    if PurePosixPath(member).name in DOWNLOADED:
                        packed.extract(member, draft)  # never outside of the folder, whatever its path
        except READ_ERRORS as error:
            raise UserError(f"{archive}: damaged, or not a zip archive: {error}") from error
        if not folder.is_dir():  # another process may have been faster
            draft.rename(folder)
    return folder
