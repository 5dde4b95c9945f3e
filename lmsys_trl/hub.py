"""The Hugging Face Hub: fetching what a repository holds, and pushing a folder as one commit."""

from pathlib import Path

import httpx2
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)


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
    except (httpx2.HTTPError, HFValidationError, OSError) as error:
        raise ValueError(f"{repo_type} {repo_id} on the Hub: {_explain(error, repo_id)}") from error


def push_folder(folder: Path, repo_id: str, repo_type: str, private: bool, message: str) -> str:
    """
    Make a repository hold what a folder holds, in one commit.

    Args:
        folder (`Path`): The folder.
        repo_id (`str`): `owner/name`; made if it does not exist.
        repo_type (`str`): "model" or "dataset".
        private (`bool`): Whether a new repository is for its owner only. One that exists stays as it is.
        message (`str`): The commit's first line.

    Returns:
        `str`: The address of the commit.

    Raises:
        ValueError: If the Hub refuses, with what to do.
    """
    api = HfApi()
    try:
        api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True)
        files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        stale = set(api.list_repo_files(repo_id, repo_type=repo_type)) - {*files, ".gitattributes"}
        operations = [CommitOperationAdd(name, path) for name, path in files.items()]
        operations += [CommitOperationDelete(name) for name in sorted(stale)]
        # Not `upload_folder`, which may make several commits.
        commit = api.create_commit(repo_id, operations, commit_message=message, repo_type=repo_type)
    except (httpx2.HTTPError, HFValidationError, OSError) as error:
        raise ValueError(f"pushing to {repo_id}: {_explain(error, repo_id)}. {folder} is complete") from error
    return commit.commit_url


def _explain(error: Exception, repo_id: str) -> str:
    if isinstance(error, GatedRepoError):
        return f"it is gated. Accept its terms at https://huggingface.co/{repo_id} and set HF_TOKEN"
    if isinstance(error, RevisionNotFoundError):
        return "there is no such revision"
    if isinstance(error, RepositoryNotFoundError):
        return "there is no such repository, or your token may not see it. Check the name, and set HF_TOKEN"
    if isinstance(error, HFValidationError):
        return f"expected owner/name: {error}"
    status = error.response.status_code if isinstance(error, HfHubHTTPError) and error.response is not None else None
    if status == 401:
        return "the Hub does not know you. Set HF_TOKEN to a valid token"
    if status == 403:
        return "your token may not do this. Set HF_TOKEN to one with the right to write"
    return f"the Hub can't be reached: {str(error).strip().splitlines()[0] or type(error).__name__}"
