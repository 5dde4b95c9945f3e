"""A name -> a folder with an adapter: a folder, a repository on the Hub, a zip archive, a data set on Kaggle."""

import json
import re
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from huggingface_hub.constants import HF_HOME

from .downloads import fetch
from .files import DAMAGE
from .hub import download_repository
from .provenance import file_fingerprint

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
JUDGE_FILE = "judge.json"
# All that is taken from elsewhere, and given: no pickles, no checkpoints.
ADAPTER_FILES = (
    ADAPTER_CONFIG, ADAPTER_WEIGHTS, JUDGE_FILE, "tokenizer.json", "tokenizer_config.json", "tokenizer.model",
    "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "vocab.json", "merges.txt",
)  # fmt: skip


def adapter_folder(name: str | Path) -> Path:
    """
    The folder with an adapter's files.

    Args:
        name (`str` or `Path`): A folder; `owner/name[@revision]` on the Hub; `file.zip`; or `kaggle:owner/name`. Of an
            archive or a Kaggle data set with several adapters the folder in it follows: `file.zip/gemma`.

    Raises:
        ValueError: If there is none, or more than one.
    """
    path = Path(name)
    if path.is_dir():
        return path
    if str(name).startswith("kaggle:"):
        dataset, inside = re.fullmatch("(kaggle:[^/]*/?[^/]*)/?(.*)", str(name)).groups()
        return _the_adapter_in(fetch(dataset)[0] / inside, name)
    for archive in (path, *path.parents):
        if archive.suffix.lower() == ".zip" and archive.is_file():
            return _the_adapter_in(_unpacked(archive) / path.relative_to(archive), name)
    if not re.fullmatch(r"[^/@]+/[^/@]+(@[^@]+)?", str(name)):
        raise ValueError(
            f"adapter {name}: there is no such folder. Name one, owner/name[@revision] on the Hub, file.zip, or "
            "kaggle:owner/name"
        )
    repo_id, _, revision = str(name).partition("@")
    try:
        folder = download_repository(repo_id, "model", revision or None, list(ADAPTER_FILES))
    except ValueError as error:
        raise ValueError(f"adapter {name}: there is no such folder, and as a {error}") from error
    return _the_adapter_in(folder, name)


def read_judge_file(adapter: str | Path) -> dict:
    """The content of the `judge.json` of an adapter, named as for [`adapter_folder`]."""
    folder = adapter_folder(adapter)
    try:
        return json.loads((folder / JUDGE_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(
            f"adapter {adapter}: no {JUDGE_FILE}; has its training finished? If it was made elsewhere, "
            "recipes/adopt.py makes a judge of it"
        ) from None
    except ValueError as error:
        raise ValueError(f"adapter {adapter}: {JUDGE_FILE} is damaged: {error}") from error


def _the_adapter_in(folder: Path, name: str | Path) -> Path:
    if (folder / ADAPTER_CONFIG).is_file():
        return folder
    found = sorted(config.parent for config in folder.rglob(ADAPTER_CONFIG))
    if not found:
        raise ValueError(f"adapter {name}: there is no {ADAPTER_CONFIG} in it")
    if len(found) > 1:
        names = ", ".join(f"{name}/{adapter.relative_to(folder).as_posix()}" for adapter in found)
        raise ValueError(f"adapter {name}: holds {len(found)} adapters. Name one of them: {names}")
    return found[0]


def _unpacked(archive: Path) -> Path:
    """A folder with the files of an archive's adapters, made once for what the archive holds."""
    folder = Path(HF_HOME) / "lmsys_trl" / "adapters" / file_fingerprint(archive)
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        draft = Path(scratch) / "draft"
        draft.mkdir()
        try:
            with zipfile.ZipFile(archive) as packed:
                for member in packed.namelist():
                    if PurePosixPath(member).name in ADAPTER_FILES:
                        packed.extract(member, draft)  # never outside of the folder, whatever its path
        except DAMAGE as error:
            raise ValueError(f"{archive}: damaged, or no zip archive: {error}") from error
        if not folder.is_dir():  # another process may have been faster
            draft.rename(folder)
    return folder
