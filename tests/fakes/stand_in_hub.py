"""A hub on the loopback: repositories with commits and branches, gated ones, and downloads that break off.

Serves the few addresses of the hub's interface that loading a model or a data set by revision needs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class Repository:
    """Commits by sha, each its files; branches by name, each a sha."""

    kind: str
    name: str
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    gated: bool = False

    def commit(self, files: dict[str, bytes]) -> str:
        """Add a commit on the branch ``main`` and return its sha."""
        text = repr((len(self.commits), sorted(files))).encode() + b"".join(files.values())
        sha = hashlib.sha1(text).hexdigest()
        self.commits[sha] = dict(files)
        self.branches["main"] = sha
        return sha

    def resolve(self, revision: str) -> str | None:
        """Return the sha a branch or a sha stands for."""
        sha = self.branches.get(revision, revision)
        return sha if sha in self.commits else None


class StandInHub:
    """The server and what it holds."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.requests: list[tuple[str, str, str | None]] = []  # command, path, range
        self.connections: set[socket.socket] = set()
        self.breaks: dict[str, int] = {}  # file name -> bytes after which its downloads break off
        self.afterwards: dict[str, Callable[[], object]] = {}  # file name -> what happens once it was asked for
        handler = type("Bound", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self._thread.start()

    def add(self, kind: str, name: str, gated: bool = False) -> Repository:
        """Make an empty repository; `kind` is ``model`` or ``dataset``."""
        repository = Repository(kind, name, gated=gated)
        self.repositories[kind, name] = repository
        return repository

    def close(self) -> None:
        """Stop serving, open connections included."""
        self.server.shutdown()
        self.server.server_close()
        for connection in self.connections:
            with contextlib.suppress(OSError):  # closed by the other side
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: StandInHub
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        """Keep the connection, to cut it when the hub goes away."""
        super().setup()
        self.hub.connections.add(self.connection)

    def log_message(self, *args) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        parts = urlsplit(self.path)
        path = unquote(parts.path).strip("/")
        self.hub.requests.append((self.command, path, self.headers.get("Range")))
        if path.startswith("api/"):
            self._interface(path.removeprefix("api/"), parse_qs(parts.query), body)
        else:
            self._file(path)

    def _find(self, kind: str, name: str, revision: str) -> tuple[Repository, str] | None:
        repository = self.hub.repositories.get((kind, name))
        if repository is None:
            self._refuse(401, "RepoNotFound", "Repository not found")
            return None
        sha = repository.resolve(revision)
        if sha is None:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return repository, sha

    def _interface(self, path: str, query: dict, body: bytes) -> None:
        kind, _, rest = path.partition("/")
        words = rest.split("/")
        name, what = "/".join(words[:2]), words[2:] or ["revision", "main"]
        revision = what[1] if len(what) > 1 else "main"
        found = self._find(kind.removesuffix("s"), name, revision)
        if found is None:
            return
        repository, sha = found
        files = repository.commits[sha]
        if what[0] == "auth-check" and repository.gated:
            self._refuse(403, "GatedRepo", "Access to this repository is restricted")
        elif what[0] == "auth-check":
            self._json({})
        elif what[0] == "revision":
            siblings = [{"rfilename": file} for file in files]
            self._json(
                {"id": name, "_id": sha[:24], "sha": sha, "siblings": siblings, "gated": repository.gated, "tags": []}
            )
        elif what[0] == "tree":
            self._json(_listing(files, "/".join(what[2:]), query.get("recursive", ["False"])[0].lower() == "true"))
        elif what[0] == "paths-info":
            wanted = json.loads(body)["paths"]
            self._json([_entry(file, files[file]) for file in wanted if file in files])
        else:
            self._refuse(404, "EntryNotFound", f"no such address: {path}")

    def _file(self, path: str) -> None:
        kind = "dataset" if path.startswith("datasets/") else "model"
        words = path.removeprefix("datasets/").split("/")
        name, revision, file = "/".join(words[:2]), words[3], "/".join(words[4:])
        found = self._find(kind, name, revision)
        if found is None:
            return
        repository, sha = found
        if repository.gated:
            self._refuse(403, "GatedRepo", "Access to this repository is restricted")
        elif file not in repository.commits[sha]:
            self._refuse(404, "EntryNotFound", "Entry not found", sha)
        else:
            self._send(repository.commits[sha][file], file, sha)
            self.hub.afterwards.pop(file, lambda: None)()

    def _send(self, data: bytes, file: str, sha: str) -> None:
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", sha)
        self.send_header("Content-Length", str(len(data) - start))
        self.send_header("Accept-Ranges", "bytes")
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        until = self.hub.breaks.get(file)
        self.wfile.write(data[start : until if until is not None else len(data)])
        if until is not None:
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()

    def _json(self, value, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        given = {**(headers or {}), "Content-Type": "application/json", "Content-Length": str(len(data))}
        for name, text in given.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _refuse(self, status: int, code: str, message: str, sha: str | None = None) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message} | ({"X-Repo-Commit": sha} if sha else {})
        self._json({"error": message}, status, headers)


def _listing(files: dict[str, bytes], under: str, recursive: bool) -> list[dict]:
    """List a folder: files and folders in it, or everything below it."""
    prefix = f"{under}/" if under else ""
    below = {file: data for file, data in files.items() if file.startswith(prefix)}
    folders = {
        prefix + file.removeprefix(prefix).partition("/")[0] for file in below if "/" in file.removeprefix(prefix)
    }
    shown = [_entry(file, data) for file, data in below.items() if recursive or "/" not in file.removeprefix(prefix)]
    return shown + [{"type": "directory", "path": name, "oid": "0" * 40, "size": 0} for name in sorted(folders)]


def _entry(file: str, data: bytes) -> dict:
    return {"type": "file", "path": file, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
