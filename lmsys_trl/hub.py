"""The Hugging Face Hub: downloading what a repository holds, and pushing files as one commit."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx2
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    get_token,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import filter_repo_objects

from .errors import UserError, first_line
from .redaction import secrets_of_environment
from .terminal import logger

ERRORS = (httpx2.HTTPError, HFValidationError, OSError)  # what the client raises for reasons outside of the program
BUSY = (429, 500, 502, 503, 504)
CONFLICTS = (409, 412)
WAITS = (1, 2, 4, 8, 16)  # seconds before each retry, where the Hub does not say how long
MAX_WAIT = 300
TEXT_SUFFIXES = (".csv", ".html", ".jinja", ".json", ".md", ".yaml")


def download_repository(repo_id: str, repo_type: str, revision: str | None, patterns: list[str]) -> Path:
    """
    The folder in the Hub's cache with a repository's files. Its name is the commit.

    Args:
        repo_id (`str`): `owner/name`.
        repo_type (`str`): "model" or "dataset".
        revision (`str`, *optional*): Branch, tag or commit.
        patterns (`list[str]`): Which files.

    Raises:
        UserError: If the download fails, with what to do.
    """
    try:
        return Path(snapshot_download(repo_id, repo_type=repo_type, revision=revision, allow_patterns=patterns))
    except ERRORS as error:
        raise UserError(f"{repo_type} {repo_id} on the Hub: {_explain(error, repo_id)}") from error


def describe_dataset(repo_id: str) -> dict[str, str | None]:
    """
    The `id`, `revision` and `license` of a data set on the Hub; None where unknown.

    Raises:
        UserError: If it cannot be read, with what to do.
    """
    try:
        info = HfApi().dataset_info(repo_id)
    except ERRORS as error:
        raise UserError(f"dataset {repo_id} on the Hub: {_explain(error, repo_id)}") from error
    return {"id": info.id, "revision": info.sha, "license": info.card_data and info.card_data.license}


def find_in_cache(repo_id: str, filename: str, revision: str | None = None) -> Path | None:
    """The path of a model repository's file, if it is in the Hub's cache."""
    path = try_to_load_from_cache(repo_id, filename, revision=revision)
    return Path(path) if isinstance(path, str) else None


def push_folder(folder: Path, repo_id: str, repo_type: str, private: bool, message: str) -> str:
    """Make a repository hold the files of a folder and no others, as [`push_files`]."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    try:
        return push_files(files, repo_id, repo_type, private, message)
    except UserError as error:
        raise UserError(f"{error}. {folder} is complete") from error


def push_files(
    files: Mapping[str, Path | bytes], repo_id: str, repo_type: str, private: bool, message: str,
    replaced: Sequence[str] = ("*",),
) -> str:  # fmt: skip
    """
    Push files in one commit: afterwards the repository holds all of them, or it is unchanged.

    The push is retried after growing waits if the Hub is busy or the connection breaks. A commit that was made but
    whose response was lost is noticed, and not made twice.

    Args:
        files (`Mapping[str, Path | bytes]`): Paths in the repository, and the content of each.
        repo_id (`str`): `owner/name`; made if it does not exist.
        repo_type (`str`): "model" or "dataset".
        private (`bool`): Whether the repository is for its owner only. A private one stays private.
        message (`str`): The commit's first line.
        replaced (`Sequence[str]`): Patterns of the repository's other files, which the commit removes.

    Returns:
        `str`: The address of the commit.

    Raises:
        UserError: If the Hub refuses, with what to do; if the repository is public and should not be; or if one of
            the files holds the user's token.
    """
    _refuse_token_in(files)
    parent, attempt = None, 0
    while True:
        try:
            api = HfApi()
            api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True)
            head = api.repo_info(repo_id, repo_type=repo_type)
            if private and head.private is False:
                raise UserError(
                    f"pushing to {repo_id}: it exists and is public. Set --hub_private_repo false if it should be, or "
                    "choose another name"
                )
            parent = parent or head.sha
            present = [file.rfilename for file in head.siblings or ()]
            removed = {*filter_repo_objects(present, allow_patterns=list(replaced))} - {*files, ".gitattributes"}
            additions = [CommitOperationAdd(name, content) for name, content in files.items()]
            # Not `upload_folder`, which may make several commits. The parent stays that of the first attempt: if that
            # one succeeded and its response was lost, nothing is left to change, and the client makes no commit.
            commit = api.create_commit(
                repo_id,
                [*additions, *map(CommitOperationDelete, sorted(removed))],
                commit_message=message,
                repo_type=repo_type,
                parent_commit=parent,
            )
            return commit.commit_url
        except ERRORS as error:
            wait = _wait_before_retry(error, attempt)
            if wait is None:
                raise UserError(f"pushing to {repo_id}: {_explain(error, repo_id)}") from error
            logger.warning("Pushing to %s: %s. Retrying in %d s", repo_id, _reason(error), wait)
            time.sleep(wait)
            attempt += 1


def _wait_before_retry(error: Exception, attempt: int) -> int | None:
    """Seconds until the next attempt, or None where another one would not help."""
    status = _status(error)
    # An earlier attempt that seemed to fail may have been completed by the Hub in the meantime.
    conflicts_with_itself = status in CONFLICTS and attempt > 0
    is_temporary = status in BUSY or conflicts_with_itself or isinstance(error, httpx2.TransportError)
    if not is_temporary or attempt == len(WAITS):
        return None
    requested = error.response.headers.get("Retry-After", "") if isinstance(error, HfHubHTTPError) else ""
    if requested.isdigit():
        return int(requested) if int(requested) <= MAX_WAIT else None
    return WAITS[attempt]


def _refuse_token_in(files: Mapping[str, Path | bytes]) -> None:
    tokens = [secret.encode() for secret in {get_token() or "", *secrets_of_environment()} if secret]
    for name, content in files.items():
        if tokens and name.endswith(TEXT_SUFFIXES):
            content = content if isinstance(content, bytes) else content.read_bytes()
            if any(token in content for token in tokens):
                raise UserError(f"{name} holds a token of yours, and is not pushed. Remove it there, and revoke it")


def _status(error: Exception) -> int | None:
    return error.response.status_code if isinstance(error, HfHubHTTPError) else None


def _reason(error: Exception) -> str:
    if isinstance(error, HfHubHTTPError):
        return f"the Hub answered {_status(error)} {' '.join((error.server_message or '').split())}".strip()
    return f"the Hub can't be reached: {first_line(error)}"


def _explain(error: Exception, repo_id: str) -> str:
    """Why a call failed, and what to do."""
    status = _status(error)
    if isinstance(error, GatedRepoError):
        return f"it is gated. Accept its terms at https://huggingface.co/{repo_id} and set HF_TOKEN"
    if isinstance(error, RevisionNotFoundError):
        return "there is no such revision"
    if isinstance(error, RepositoryNotFoundError):
        return "there is no such repository, or your token may not see it. Check the name, and set HF_TOKEN"
    if isinstance(error, HFValidationError):
        return f"expected owner/name: {error}"
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    if status == 401:
        return "the Hub does not know your token. Set HF_TOKEN to a valid token"
    if status == 403:
        return "your token may not do this. Set HF_TOKEN to one with the right to write"
    if status == 404:
        return "there is no such user or organization, or your token may not see it. Check the name, and set HF_TOKEN"
    if status in CONFLICTS:
        return "somebody else has pushed to it in the meantime. Look at what it holds now, and push again"
    if status in BUSY:
        return f"{_reason(error)}. Nothing was changed. Try again later"
    return _reason(error)
