"""
A loopback server that speaks the Hugging Face Hub's protocol, so that tests run the unmodified clients.

Everything is in memory: a commit maps paths to blobs, a branch or a tag names a commit, and every write is atomic,
because each runs on the server's event loop without a pause. Files with one of `LFS_SUFFIXES`, and big ones, are
large files: their content goes to and from `/objects/<SHA-256>` on a storage host. That host is this server at a
second port, because the clients read a large file's metadata from the redirect only if it leaves the Hub's origin.
"""

import asyncio
import base64
import hashlib
import json
import re
import secrets
import threading
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path, PurePosixPath

import yaml
from aiohttp import web

USER = "owner"
# What each token may do; a "public" one belongs to somebody who sees the public repositories only.
TOKENS = {"hf_writer": "write", "hf_reader": "read", "hf_stranger": "public"}
LFS_SUFFIXES = (".arrow", ".bin", ".parquet", ".png", ".safetensors", ".zip")
REGULAR_SIZE = 10 * 2**20  # a bigger file is a large one, whatever its name


@dataclass
class Fault:
    """
    What happens to the next `times` requests with this method and a path in which the pattern is found.

    With `status` or `reset` a request has no effect; a response with `retry_after` asks for a retry after so many
    seconds. With `cut_after` it has its effect, and the client gets only so many bytes of the response's body. With
    `overtaken` somebody else commits to the repository just before.
    """

    method: str
    path: str
    status: int | None = None
    retry_after: int | None = None
    cut_after: int | None = None
    reset: bool = False
    overtaken: bool = False
    times: int = 1


class HubError(Exception):
    """An error response; the clients choose their exception by `code`."""

    def __init__(self, status: int, message: str, code: str = "", headers: Mapping[str, str] | None = None, **body):
        headers = {"X-Error-Message": message, "X-Error-Code": code, **(headers or {})}
        self.response = web.json_response({"error": message, **body}, status=status, headers=headers)


@dataclass(frozen=True, eq=False)
class Blob:
    """The content of a file."""

    data: bytes
    lfs: bool

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def pointer(self) -> bytes:
        """What git holds in place of a large file."""
        version = "https://git-lfs.github.com/spec/v1"
        return f"version {version}\noid sha256:{self.sha256}\nsize {len(self.data)}\n".encode()

    @cached_property
    def oid(self) -> str:
        """Git's name of the blob."""
        content = self.pointer if self.lfs else self.data
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    @property
    def etag(self) -> str:
        """What the clients compare with a local file."""
        return self.sha256 if self.lfs else self.oid


@dataclass(frozen=True, eq=False)
class Commit:
    """A state of all files of a repository, by path."""

    files: dict[str, Blob]
    title: str
    message: str = ""
    parent: "Commit | None" = None
    sha: str = field(default_factory=lambda: secrets.token_hex(20))
    date: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"))

    def history(self) -> Iterator["Commit"]:
        """This commit and those before it, the newest first."""
        commit = self
        while commit is not None:
            yield commit
            commit = commit.parent

    def under(self, path: str) -> dict[str, str]:
        """The names of the blobs at a path and below it; an empty path is the root."""
        return {name: blob.oid for name, blob in self.files.items() if not path or f"{name}/".startswith(f"{path}/")}

    def last_change(self, path: str) -> "Commit":
        """The newest commit that changed a file or a folder."""
        return next(c for c in self.history() if c.parent is None or c.parent.under(path) != self.under(path))

    def folders(self) -> set[str]:
        return {str(folder) for path in self.files for folder in PurePosixPath(path).parents} - {"."}

    def entry(self, path: str, expand: bool) -> dict:
        """What the Hub says of a file or a folder; with `expand`, also of the last commit that changed it."""
        if path in self.files:
            blob = self.files[path]
            entry = {"type": "file", "path": path, "oid": blob.oid, "size": len(blob.data)}
            if blob.lfs:
                entry["lfs"] = {"oid": blob.sha256, "size": len(blob.data), "pointerSize": len(blob.pointer)}
        else:
            oid = hashlib.sha1(json.dumps(self.under(path), sort_keys=True).encode()).hexdigest()
            entry = {"type": "directory", "path": path, "oid": oid, "size": 0}
        if expand:
            commit = self.last_change(path)
            entry["lastCommit"] = {"id": commit.sha, "title": commit.title, "date": commit.date}
        return entry


class Repo:
    """A repository; `path` is that of its page, "owner/model" or "datasets/owner/name"."""

    def __init__(self, path: str, private: bool):
        self.path, self.private = path, private
        attributes = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES)
        first = Commit({".gitattributes": Blob(attributes.encode(), lfs=False)}, "initial commit")
        self.commits = {first.sha: first}
        self.branches = {"main": first}
        self.tags: dict[str, Commit] = {}

    def at(self, revision: str) -> Commit:
        """The commit that a branch, a tag or a SHA names."""
        commit = ChainMap(self.branches, self.tags, self.commits).get(revision)
        if commit is None:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    def add(self, files: dict[str, Blob], title: str, message: str = "", branch: str = "main") -> Commit:
        """A new commit at the head of a branch."""
        commit = Commit(files, title, message, self.branches[branch])
        self.commits[commit.sha] = self.branches[branch] = commit
        return commit


def card_data(readme: str) -> dict:
    """The metadata at the head of a card."""
    front_matter = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", readme, re.DOTALL)
    return yaml.safe_load(front_matter[1]) or {} if front_matter else {}


def page_path(body: dict) -> str:
    """The path of the page of the repository that the body of a request names."""
    prefix = "datasets/" if body.get("type") == "dataset" else ""
    return f"{prefix}{body.get('organization') or USER}/{body['name']}"


def send(request: web.Request, blob: Blob, headers: Mapping[str, str] | None = None) -> web.Response:
    """A blob's content, or the range of it that the request asks for."""
    headers = {"ETag": f'"{blob.etag}"', "Accept-Ranges": "bytes", **(headers or {})}
    size = len(blob.data)
    if "Range" not in request.headers:
        return web.Response(body=blob.data, headers=headers)
    start, stop, _ = request.http_range.indices(size)
    if start >= stop:
        raise HubError(416, "Range Not Satisfiable", headers={"Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return web.Response(status=206, body=blob.data[start:stop], headers=headers)


async def send_cut(request: web.Request, response: web.Response, size: int) -> web.StreamResponse:
    """Announce the whole body, send `size` bytes of it and close the connection."""
    cut = web.StreamResponse(status=response.status, headers=response.headers)
    body = response.body or b""  # a redirect has none
    cut.content_length = len(body)
    await cut.prepare(request)
    await cut.write(body[:size])
    request.transport.close()
    return cut


API = "/api/{page:(?:models|datasets)/[^/]+/[^/]+}"
PAGE = "/{page:(?:datasets/)?[^/]+/[^/]+}"
ROUTES: list[tuple[str, str, bool, Callable]] = []


def route(method: str, path: str, write: bool = False) -> Callable[[Callable], Callable]:
    """Let the decorated method of the hub handle these requests, with `write` those of a token that may write."""

    def register(handler: Callable) -> Callable:
        ROUTES.append((method, path, write, handler))
        return handler

    return register


class LoopbackHub:
    """
    The server, in a thread of its own for as long as the context lasts.

    `repos` holds the repositories by the path of their page, `requests` the method and path of each request so far,
    and `faults` what will go wrong.
    """

    def __init__(self, tokens: Mapping[str, str] = TOKENS):
        self.tokens = tokens
        self.repos: dict[str, Repo] = {}
        self.objects: dict[str, Blob] = {}  # the storage host's, by SHA-256
        self.requests: list[tuple[str, str]] = []
        self.faults: list[Fault] = []

    def environment(self, home: Path, token: str | None = "hf_writer") -> dict[str, str]:
        """The variables with which a new process talks to this server; the clients read them when imported."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": token or "",
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_OFFLINE": "0",
        }

    def __enter__(self) -> "LoopbackHub":
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    def __exit__(self, *_) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        app = web.Application(client_max_size=0)  # 0: no limit
        for method, path, write, handler in ROUTES:
            app.router.add_route(method, path, partial(self._answer, handler, write))
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        for _ in range(2):
            await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url, self.storage_url = (f"http://{host}:{port}" for host, port in self._runner.addresses)

    async def _answer(self, handler: Callable, write: bool, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path))
        await request.read()  # else a fault meets a client that still sends
        faults = (f for f in self.faults if f.times and f.method == request.method and re.search(f.path, request.path))
        fault = next(faults, None)
        if fault:
            fault.times -= 1
            if fault.reset:
                request.transport.abort()
                return web.Response()
        try:
            if fault and fault.status:
                headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
                raise HubError(fault.status, "An injected fault", headers=headers)
            arguments = self._arguments(request, write)
            if fault and fault.overtaken:
                arguments["repo"].add(
                    {**arguments["repo"].branches["main"].files, "theirs": Blob(b"", False)}, "Theirs"
                )
            answer = await handler(self, request, **arguments)
            response = answer if isinstance(answer, web.Response) else web.json_response(answer)
        except HubError as error:
            response = error.response
        if fault and fault.cut_after is not None:
            return await send_cut(request, response, fault.cut_after)
        return response

    def _arguments(self, request: web.Request, write: bool) -> dict:
        """What the URL names, if the token may see it and do this with it: the handler's arguments."""
        arguments, rights = dict(request.match_info), self._rights(request)
        if "page" in arguments:
            repo = arguments["repo"] = self.repos.get(arguments.pop("page").removeprefix("models/"))
            # A repository that may not be read looks like one that is not there.
            if repo is None or (repo.private and rights not in ("read", "write")):
                raise HubError(404 if rights else 401, "Repository not found", "RepoNotFound")
        if write and rights != "write":
            raise HubError(403 if rights else 401, "You don't have the required permissions to perform this action")
        return arguments

    def _rights(self, request: web.Request) -> str | None:
        """What the token may do; None without a token."""
        if "Authorization" not in request.headers:
            return None
        rights = self.tokens.get(request.headers["Authorization"].removeprefix("Bearer "))
        if rights is None:
            raise HubError(401, "Invalid credentials in Authorization header")
        return rights

    @route("GET", "/api/whoami-v2")
    async def _whoami(self, request: web.Request) -> dict:
        auth = {"type": "access_token", "accessToken": {"displayName": "test", "role": self._rights(request)}}
        return {"type": "user", "name": USER, "fullname": USER, "orgs": [], "auth": auth}

    @route("POST", "/api/validate-yaml")
    async def _validate_yaml(self, request: web.Request) -> dict:
        try:
            card = card_data((await request.json())["content"])
        except yaml.YAMLError as error:
            raise HubError(400, "Invalid metadata", errors=[{"message": str(error)}]) from error
        warnings = [] if card else [{"message": "empty or missing yaml metadata in repo card"}]
        return {"errors": [], "warnings": warnings}

    @route("POST", "/api/repos/create", write=True)
    async def _create(self, request: web.Request) -> dict:
        body = await request.json()
        repo = Repo(page_path(body), private=body.get("visibility") == "private")
        url = f"{self.url}/{repo.path}"
        if repo.path in self.repos:
            raise HubError(409, "You already created this repo", url=url)
        self.repos[repo.path] = repo
        return {"url": url}

    @route("DELETE", "/api/repos/delete", write=True)
    async def _delete(self, request: web.Request) -> dict:
        if self.repos.pop(page_path(await request.json()), None) is None:
            raise HubError(404, "Repository not found", "RepoNotFound")
        return {}

    @route("PUT", f"{API}/settings", write=True)
    async def _settings(self, request: web.Request, repo: Repo) -> dict:
        repo.private = (await request.json())["visibility"] == "private"
        return {}

    @route("GET", API)
    @route("GET", f"{API}/revision/{{revision}}")
    async def _info(self, request: web.Request, repo: Repo, revision: str = "main") -> dict:
        commit = repo.at(revision)
        card = card_data(commit.files["README.md"].data.decode()) if "README.md" in commit.files else {}
        return {
            "id": repo.path.removeprefix("datasets/"),
            "sha": commit.sha,
            "lastModified": commit.date,
            "private": repo.private,
            "gated": False,
            "tags": card.get("tags", []),
            "cardData": card,
            "siblings": [{"rfilename": path} for path in sorted(commit.files)],
        }

    @route("GET", f"{API}/tree/{{revision}}")
    @route("GET", f"{API}/tree/{{revision}}/{{path:.+}}")
    async def _tree(self, request: web.Request, repo: Repo, revision: str, path: str = "") -> list[dict]:
        commit = repo.at(revision)
        folders, expand = commit.folders(), request.query.get("expand") == "true"
        if path and path not in folders:
            raise HubError(404, f"{path} does not exist", "EntryNotFound")
        depth = None if request.query.get("recursive") == "true" else 1
        names = sorted([*folders, *commit.files])
        return [commit.entry(n, expand) for n in names if PurePosixPath(path) in PurePosixPath(n).parents[:depth]]

    @route("POST", f"{API}/paths-info/{{revision}}")
    async def _paths_info(self, request: web.Request, repo: Repo, revision: str) -> list[dict]:
        commit = repo.at(revision)
        known = commit.folders() | set(commit.files)
        form = await request.post()
        expand = form.get("expand") == "true"
        return [commit.entry(path, expand) for path in form.getall("paths", []) if path in known]

    @route("HEAD", f"{PAGE}/resolve/{{revision}}/{{path:.+}}")
    @route("GET", f"{PAGE}/resolve/{{revision}}/{{path:.+}}")
    async def _resolve(self, request: web.Request, repo: Repo, revision: str, path: str) -> web.Response:
        commit = repo.at(revision)
        headers = {"X-Repo-Commit": commit.sha}
        blob = commit.files.get(path)
        if blob is None:
            raise HubError(404, "Entry not found", "EntryNotFound", headers)
        if not blob.lfs:
            return send(request, blob, headers)
        headers |= {"X-Linked-Etag": f'"{blob.etag}"', "X-Linked-Size": str(len(blob.data))}
        return web.Response(status=302, headers={**headers, "Location": f"{self.storage_url}/objects/{blob.sha256}"})

    @route("GET", f"{API}/commits/{{revision}}")
    async def _commits(self, request: web.Request, repo: Repo, revision: str) -> list[dict]:
        commits = repo.at(revision).history()
        fixed = {"authors": [{"user": USER}]}
        return [{"id": c.sha, "title": c.title, "message": c.message, "date": c.date, **fixed} for c in commits]

    @route("GET", f"{API}/refs")
    async def _refs(self, request: web.Request, repo: Repo) -> dict:
        def listed(commits: dict[str, Commit], prefix: str) -> list[dict]:
            return [{"name": name, "ref": prefix + name, "targetCommit": c.sha} for name, c in commits.items()]

        branches, tags = listed(repo.branches, "refs/heads/"), listed(repo.tags, "refs/tags/")
        return {"branches": branches, "tags": tags, "converts": [], "pullRequests": []}

    @route("POST", f"{API}/branch/{{branch}}", write=True)
    async def _create_branch(self, request: web.Request, repo: Repo, branch: str) -> dict:
        start = (await request.json()).get("startingPoint", "main")
        return self._add_reference(repo.branches, branch, repo.at(start))

    @route("POST", f"{API}/tag/{{revision}}", write=True)
    async def _create_tag(self, request: web.Request, repo: Repo, revision: str) -> dict:
        name = (await request.json())["tag"]
        return self._add_reference(repo.tags, name, repo.at(revision))

    def _add_reference(self, references: dict[str, Commit], name: str, commit: Commit) -> dict:
        if name in references:
            raise HubError(409, "Reference already exists")
        references[name] = commit
        return {}

    @route("POST", f"{API}/preupload/{{revision}}", write=True)
    async def _preupload(self, request: web.Request, repo: Repo, revision: str) -> dict:
        commit = repo.at(revision)
        files = (await request.json())["files"]
        for file in files:
            lfs = file["path"].endswith(LFS_SUFFIXES) or file["size"] > REGULAR_SIZE
            blob = commit.files.get(file["path"])
            file.update(uploadMode="lfs" if lfs else "regular", shouldIgnore=False, oid=blob and blob.etag)
        return {"files": files}

    @route("POST", f"{API}/commit/{{branch}}", write=True)
    async def _commit(self, request: web.Request, repo: Repo, branch: str) -> dict:
        header, *operations = map(json.loads, (await request.read()).splitlines())
        if branch not in repo.branches:
            raise HubError(404, f"Invalid rev id: {branch}", "RevisionNotFound")
        head = repo.branches[branch]
        if header["value"].get("parentCommit", head.sha) != head.sha:
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        files = dict(head.files)
        for operation in operations:
            self._apply(files, operation["key"], **operation["value"])
        commit = repo.add(files, header["value"]["summary"], header["value"].get("description", ""), branch)
        return {"commitUrl": f"{self.url}/{repo.path}/commit/{commit.sha}", "commitOid": commit.sha}

    def _apply(self, files: dict[str, Blob], key: str, path: str, content: str = "", oid: str = "", **_) -> None:
        """Carry out an operation of a commit."""
        if key == "file":
            files[path] = Blob(base64.b64decode(content), lfs=False)
        elif key == "lfsFile":
            if oid not in self.objects:
                raise HubError(400, f"The content of {path} was not uploaded")
            files[path] = self.objects[oid]
        else:  # deletedFile, deletedFolder
            folder = f"{path.rstrip('/')}/"
            gone = [name for name in files if (name == path if key == "deletedFile" else name.startswith(folder))]
            if not gone:
                raise HubError(404, "A file with this name doesn't exist", "EntryNotFound")
            for name in gone:
                del files[name]

    @route("POST", f"{PAGE}.git/info/lfs/objects/batch", write=True)
    async def _lfs_batch(self, request: web.Request, repo: Repo) -> dict:
        verify = f"{self.url}/{repo.path}.git/info/lfs/verify"
        objects = (await request.json())["objects"]
        for item in objects:
            if item["oid"] not in self.objects:
                upload = f"{self.storage_url}/objects/{item['oid']}"
                item["actions"] = {"upload": {"href": upload}, "verify": {"href": verify}}
        return {"objects": objects}

    @route("POST", f"{PAGE}.git/info/lfs/verify", write=True)
    async def _lfs_verify(self, request: web.Request, repo: Repo) -> dict:
        if (await request.json())["oid"] not in self.objects:
            raise HubError(404, "The object was not uploaded")
        return {}

    # The storage host below asks for no token: a URL on it stands for a signed one.

    @route("GET", "/objects/{oid}")
    async def _get_object(self, request: web.Request, oid: str) -> web.Response:
        return send(request, self.objects[oid])

    @route("PUT", "/objects/{oid}")
    async def _put_object(self, request: web.Request, oid: str) -> dict:
        blob = Blob(await request.read(), lfs=True)
        if blob.sha256 != oid:
            raise HubError(400, "The content does not have the announced SHA-256")
        self.objects[blob.sha256] = blob
        return {}

    @route("*", "/{path:.*}")
    async def _unknown(self, request: web.Request, path: str) -> None:
        raise HubError(404, f"Nothing answers {request.method} {request.path}")
