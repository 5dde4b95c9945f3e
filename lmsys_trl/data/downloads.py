"""The path of a source -> a local path. `hub:` and `kaggle:` are downloaded into the caches of their clients."""

from contextlib import suppress
from pathlib import Path

from yaml import YAMLError

from ..errors import UserError, first_line
from .files import SUFFIXES

COMPRESSION_SUFFIXES = ("", ".gz", ".zip")


def download(path: str, pattern: str | None = None) -> tuple[Path, dict]:
    """
    Download what is not local.

    Args:
        path (`str`): A local path, `hub:owner/name[@revision]`, `kaggle:owner/name` (a data set) or `kaggle:name` (a
            competition, whose rules must have been accepted on its page).
        pattern (`str`, *optional*): Which files of a repository.

    Returns:
        `tuple[Path, dict]`: A local path, and its `revision` and `license` where they are known.

    Raises:
        UserError: If it does not exist, or credentials are missing.
    """
    scheme, _, name = path.partition(":")
    if scheme == "hub":
        repo_id, _, revision = name.partition("@")
        return _download_from_hub(repo_id, revision, pattern)
    if scheme == "kaggle":
        return _download_from_kaggle(name), {}
    return Path(path), {}


def _download_from_hub(repo_id: str, revision: str, pattern: str | None) -> tuple[Path, dict]:
    # Imported now: the Hub's client takes a quarter of a second, and most sources are files.
    from huggingface_hub import DatasetCard

    from ..hub import download_repository

    patterns = (
        [pattern]
        if pattern
        else [f"*{suffix}{compression}" for suffix in SUFFIXES for compression in COMPRESSION_SUFFIXES]
    )
    folder = download_repository(repo_id, "dataset", revision or None, [*patterns, "README.md"])
    known = {"revision": folder.name}
    with suppress(OSError, ValueError, YAMLError):  # a repository without a card, or with an invalid one
        license_id = DatasetCard.load(folder / "README.md").data.license
        known["license"] = ", ".join(license_id) if isinstance(license_id, list) else license_id
    return folder, known


def _download_from_kaggle(name: str) -> Path:
    try:
        import kagglehub
        from kagglehub.exceptions import DataCorruptionError, UnauthenticatedError
    except ImportError as error:
        raise UserError(f"kaggle:{name}: needs Kaggle's client: pip install 'lmsys-trl[kaggle]'") from error
    kaggle_download = kagglehub.dataset_download if "/" in name else kagglehub.competition_download
    try:
        # It returns complete downloads only, and resumes an interrupted one.
        return Path(kaggle_download(name))
    except (OSError, DataCorruptionError, UnauthenticatedError, ValueError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        reason = first_line(error)
        if isinstance(error, UnauthenticatedError) or status in (401, 403):
            reason = "Kaggle refuses access. Set KAGGLE_USERNAME and KAGGLE_KEY"
            if "/" not in name:
                reason += f" and accept the rules at https://www.kaggle.com/competitions/{name}/rules"
        elif status == 404:
            reason = "there is no such data set or competition"
        raise UserError(f"kaggle:{name}: {reason}") from error
