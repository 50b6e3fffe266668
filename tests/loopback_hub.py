"""A small Hugging Face Hub on loopback: data sets to fetch, models to upload."""

import base64
import contextlib
import hashlib
import json
import re
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_secretOfThisTest"
# Larger files are uploaded as LFS, as the Hub asks for weights.
MAX_REGULAR_BYTES = 20_000


def commit_of(name: str) -> str:
    return hashlib.sha1(name.encode()).hexdigest()


class Hub(ThreadingHTTPServer):
    """The state of the Hub.

    Attributes:
      data_set: name of its only data set.
      files: files of the data set by revision and path; "main" is one.
      tags: revisions by name, which may move.
      uploaded: files of each model repository, by path.
      private: whether each model repository is private.
      requests: method and path of every request.
      status: status of every answer to an upload, to refuse it; 0 to accept it.
      blob_status: status of the answer to the content of a large file.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.data_set = "some/data"
        self.files: dict[str, dict[str, bytes]] = {}
        self.tags: dict[str, str] = {}
        self.uploaded: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.requests: list[str] = []
        self.blobs: dict[str, bytes] = {}
        self.status = 0
        self.blob_status = 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def publish(self, **files: bytes) -> str:
        """Makes a new commit of the data set; `main` is this one."""
        commit = commit_of(str(len(self.files)))
        self.files[commit] = {n.replace("__", "/"): f for n, f in files.items()}
        self.tags["main"] = commit
        return commit

    def environment(self, cache) -> dict[str, str]:
        """The variables of a process that uses this Hub."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(cache),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "PYTHONPATH": ":".join(sys.path),
        }


class Answer(BaseHTTPRequestHandler):
    """The Hub's answer to one request."""

    server: Hub

    def _send(self, status, value=(), **headers):
        body = value if isinstance(value, bytes) else json.dumps(value or {}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_GET(self):
        path = urllib.parse.unquote(urllib.parse.urlparse(self.path).path)
        self.server.requests.append(f"{self.command} {path}")
        name = re.escape(self.server.data_set)
        if found := re.fullmatch(rf"/api/datasets/{name}(?:/revision/(.+))?", path):
            return self._info(found[1] or "main")
        if found := re.fullmatch(rf"/api/datasets/{name}/tree/([^/]+)", path):
            return self._tree(found[1])
        if found := re.fullmatch(rf"/datasets/{name}/resolve/([^/]+)/(.+)", path):
            return self._file(*found.groups())
        return self._send(404, X_Error_Code="RepoNotFound")

    do_HEAD = do_GET

    def _commit(self, revision):
        commit = self.server.tags.get(revision, revision)
        return commit if commit in self.server.files else None

    def _info(self, revision):
        commit = self._commit(revision)
        if commit is None:
            return self._send(404, X_Error_Code="RevisionNotFound")
        siblings = [{"rfilename": name} for name in self.server.files[commit]]
        info = {"id": self.server.data_set, "sha": commit, "siblings": siblings}
        return self._send(200, info, Content_Type="application/json")

    def _tree(self, revision):
        commit = self._commit(revision)
        if commit is None:
            return self._send(404, X_Error_Code="RevisionNotFound")
        tree = [
            {"type": "file", "path": name, "size": len(body), "oid": commit}
            for name, body in self.server.files[commit].items()
        ]
        return self._send(200, tree, Content_Type="application/json")

    def _file(self, revision, name):
        commit = self._commit(revision)
        if commit is None:
            return self._send(404, X_Error_Code="RevisionNotFound")
        if name not in self.server.files[commit]:
            return self._send(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        body = self.server.files[commit][name]
        etag = f'"{hashlib.sha256(body).hexdigest()}"'
        return self._send(200, body, ETag=etag, X_Repo_Commit=commit)

    def do_POST(self):
        path, body = urllib.parse.unquote(self.path.partition("?")[0]), self._body()
        self.server.requests.append(f"POST {path}")
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            return self._send(401, {"error": "Invalid credentials"})
        if self.server.status:
            return self._send(self.server.status, {"error": "no right to write here"})
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path.endswith("/info/lfs/objects/batch"):
            return self._lfs(json.loads(body))
        if "/preupload/" in path:
            return self._preupload(json.loads(body))
        if found := re.fullmatch(r"/api/models/(.+?/.+?)/commit/main", path):
            return self._receive(found[1], body)
        return self._send(200, {})

    def _create(self, asked):
        repo = f"{asked['organization']}/{asked['name']}"
        self.server.uploaded.setdefault(repo, {})
        self.server.private[repo] = asked.get("visibility") == "private"
        return self._send(200, {"url": f"{self.server.url}/{repo}"})

    def _preupload(self, asked):
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["size"] > MAX_REGULAR_BYTES else "regular",
                "shouldIgnore": False,
            }
            for file in asked["files"]
        ]
        return self._send(200, {"files": files})

    def _lfs(self, asked):
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.server.url}/{one['oid']}"}}}
            for one in asked["objects"]
        ]
        answer = {"transfer": "basic", "objects": objects}
        kind = "application/vnd.git-lfs+json"
        return self._send(200, answer, Content_Type=kind)

    def do_PUT(self):
        body = self._body()
        assert hashlib.sha256(body).hexdigest() == self.path.strip("/")
        self.server.blobs[self.path.strip("/")] = body
        return self._send(self.server.blob_status)

    def _receive(self, repo, body):
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                content = base64.b64decode(value["content"])
                self.server.uploaded[repo][value["path"]] = content
            if line["key"] == "lfsFile":
                content = self.server.blobs[value["oid"]]
                self.server.uploaded[repo][value["path"]] = content
        url = f"{self.server.url}/{repo}/commit/{commit_of(repo)}"
        answer = {"commitUrl": url, "commitOid": commit_of(repo), "success": True}
        return self._send(200, answer)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def running_hub():
    """A Hub that answers until the context ends."""
    with Hub() as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        yield hub
        hub.shutdown()
