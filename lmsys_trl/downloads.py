"""Where a source's path leads: a path as it is, `hub:` to the Hub's cache, `kaggle:` to Kaggle's."""

from contextlib import suppress
from pathlib import Path

from huggingface_hub import DatasetCard
from yaml import YAMLError

from .files import SUFFIXES
from .hub import download_repository

PACKED = ("", ".gz", ".zip")


def fetch(path: str, pattern: str | None = None) -> tuple[Path, dict]:
    """
    Args:
        path (`str`): A local path, `hub:owner/name[@revision]`, `kaggle:owner/name` (a data set) or `kaggle:name` (a
            competition, whose rules must have been accepted on its page).
        pattern (`str`, *optional*): Which files of a repository.

    Returns:
        `tuple[Path, dict]`: A local path, and what is known of it: `revision`, `license`.

    Raises:
        ValueError: If there is nothing, or credentials are missing.
    """
    scheme, _, name = path.partition(":")
    if scheme == "hub":
        return _fetch_from_hub(*name.partition("@")[::2], pattern)
    if scheme == "kaggle":
        return _fetch_from_kaggle(name), {}
    return Path(path), {}


def _fetch_from_hub(repo_id: str, revision: str, pattern: str | None) -> tuple[Path, dict]:
    patterns = [pattern] if pattern else [f"*{suffix}{packed}" for suffix in SUFFIXES for packed in PACKED]
    folder = download_repository(repo_id, "dataset", revision or None, [*patterns, "README.md"])
    facts = {"revision": folder.name}
    with suppress(OSError, ValueError, YAMLError):  # a repository without a card, or with a broken one
        license = DatasetCard.load(folder / "README.md").data.license
        facts["license"] = ", ".join(license) if isinstance(license, list) else license
    return folder, facts


def _fetch_from_kaggle(name: str) -> Path:
    try:
        import kagglehub
        from kagglehub.exceptions import DataCorruptionError, UnauthenticatedError
    except ImportError as error:
        raise ValueError(f"kaggle:{name}: needs Kaggle's client: pip install 'lmsys-trl[kaggle]'") from error
    download = kagglehub.dataset_download if "/" in name else kagglehub.competition_download
    try:
        # What broke off is no part of what it returns: it marks a download complete and goes on with any other.
        return Path(download(name))
    except (OSError, DataCorruptionError, UnauthenticatedError, ValueError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if isinstance(error, UnauthenticatedError) or status in (401, 403):
            reason = "Kaggle does not know you, or you may not have it. Set KAGGLE_USERNAME and KAGGLE_KEY"
            reason += (
                "" if "/" in name else f" and accept the rules at https://www.kaggle.com/competitions/{name}/rules"
            )
        elif status == 404:
            reason = "there is no such data set or competition"
        raise ValueError(f"kaggle:{name}: {reason}") from error
