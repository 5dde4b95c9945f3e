"""The Hugging Face Hub: fetching what a repository holds, and pushing files as one commit."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path

import httpx2
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import filter_repo_objects

ERRORS = (httpx2.HTTPError, HFValidationError, OSError)  # what the client raises for reasons outside of the program
BUSY = (429, 500, 502, 503, 504)
OVERTAKEN = (409, 412)
WAITS = (1, 2, 4, 8, 16)  # seconds before each new attempt, where the Hub does not say how long
LONGEST_WAIT = 300
TEXT_SUFFIXES = (".csv", ".html", ".jinja", ".json", ".md", ".yaml")


def download_repository(repo_id: str, repo_type: str, revision: str | None, patterns: list[str]) -> Path:
    """
    The folder in the Hub's cache with a repository's files; its name is the commit.

    Args:
        repo_id (`str`): `owner/name`.
        repo_type (`str`): "model" or "dataset".
        revision (`str`, *optional*): Branch, tag or commit.
        patterns (`list[str]`): Which files.

    Raises:
        ValueError: If the Hub does not give it, with what to do.
    """
    try:
        return Path(snapshot_download(repo_id, repo_type=repo_type, revision=revision, allow_patterns=patterns))
    except ERRORS as error:
        raise ValueError(f"{repo_type} {repo_id} on the Hub: {_explain(error, repo_id)}") from error


def push_folder(folder: Path, repo_id: str, repo_type: str, private: bool, message: str) -> str:
    """Make a repository hold what a folder holds and nothing else, as [`push_files`]."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    try:
        return push_files(files, repo_id, repo_type, private, message)
    except ValueError as error:
        raise ValueError(f"{error}. {folder} is complete") from error


def push_files(
    files: Mapping[str, Path | bytes], repo_id: str, repo_type: str, private: bool, message: str,
    replaced: tuple[str, ...] = ("*",),
) -> str:  # fmt: skip
    """
    Push files in one commit: afterwards the repository holds all of them, or is as it was. Tried again after growing
    waits where the Hub is busy or the connection breaks. A commit whose answer was lost is noticed, not repeated.

    Args:
        files (`Mapping[str, Path | bytes]`): Paths in the repository, and what stands there.
        repo_id (`str`): `owner/name`; made if it does not exist.
        repo_type (`str`): "model" or "dataset".
        private (`bool`): Whether the repository is for its owner only. A private one stays private.
        message (`str`): The commit's first line.
        replaced (`tuple[str, ...]`): Patterns of the repository's other files, which the commit removes.

    Returns:
        `str`: The address of the commit.

    Raises:
        ValueError: If the Hub refuses, with what to do; if the repository is public and should not be; or if the
            user's token stands in one of the files.
    """
    _refuse_token_in(files)
    parent = None
    for number, wait in enumerate((*WAITS, None)):
        try:
            api = HfApi()
            api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True)
            head = api.repo_info(repo_id, repo_type=repo_type)
            if private and head.private is False:
                raise ValueError(
                    f"pushing to {repo_id}: it exists and is public. Set --private false (hub_private_repo in a "
                    "recipe of sft.py) if it should be, or choose another name"
                )
            parent = parent or head.sha
            there = filter_repo_objects([file.rfilename for file in head.siblings], allow_patterns=list(replaced))
            operations = [CommitOperationAdd(name, content) for name, content in files.items()]
            operations += [CommitOperationDelete(name) for name in sorted({*there} - {*files, ".gitattributes"})]
            # Not `upload_folder`, which may make several commits. The parent stays that of the first attempt: after
            # one that succeeded unheard nothing is left to change, and the client asks for no commit.
            commit = api.create_commit(
                repo_id, operations, commit_message=message, repo_type=repo_type, parent_commit=parent
            )
            return commit.commit_url
        except ERRORS as error:
            wait = _wait_before_retry(error, number, wait)
            if wait is None:
                raise ValueError(f"pushing to {repo_id}: {_explain(error, repo_id)}") from error
            print(f"Pushing to {repo_id}: {_reason(error)}. Tried again in {wait} s", file=sys.stderr)
            time.sleep(wait)


def _wait_before_retry(error: Exception, number: int, wait: int | None) -> int | None:
    """Seconds until the next attempt, or None where another one is no use."""
    status = _status(error)
    # An earlier attempt that seemed to fail may have reached its end just now.
    overtaken_by_itself = status in OVERTAKEN and number > 0
    if not (status in BUSY or overtaken_by_itself or isinstance(error, httpx2.TransportError)):
        return None
    asked = error.response.headers.get("Retry-After", "") if status is not None else ""
    if wait is not None and asked.isdigit():
        wait = int(asked) if int(asked) <= LONGEST_WAIT else None
    return wait


def _refuse_token_in(files: Mapping[str, Path | bytes]) -> None:
    token = (get_token() or "").encode()
    for name, content in files.items():
        if token and name.endswith(TEXT_SUFFIXES):
            content = content if isinstance(content, bytes) else content.read_bytes()
            if token in content:
                raise ValueError(f"{name} holds your Hub token, and is not pushed. Remove it there, and revoke it")


def _status(error: Exception) -> int | None:
    return error.response.status_code if isinstance(error, HfHubHTTPError) else None


def _reason(error: Exception) -> str:
    if _status(error) is not None:
        return f"the Hub answered {_status(error)} {' '.join((error.server_message or '').split())}".strip()
    return f"the Hub can't be reached: {(str(error).strip() or type(error).__name__).splitlines()[0]}"


def _explain(error: Exception, repo_id: str) -> str:
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
        return "the Hub does not know you. Set HF_TOKEN to a valid token"
    if status == 403:
        return "your token may not do this. Set HF_TOKEN to one with the right to write"
    if status == 404:
        return "there is no such user or organization, or your token may not see it. Check the name, and set HF_TOKEN"
    if status in OVERTAKEN:
        return "somebody else has pushed to it meanwhile. Look at what it holds now, and push again"
    if status in BUSY:
        return f"{_reason(error)}, again and again. Nothing was changed. Push again later"
    return _reason(error)
