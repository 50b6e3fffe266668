"""Hub ids, with a fake Hub on loopback."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

FILES = {
    "config.json": b'{"model_type": "qwen2"}',
    "model.safetensors": b"weights",
    "pytorch_model.bin": b"never fetched",
}
COMMIT = "0" * 40


class Hub(BaseHTTPRequestHandler):
    """A Hub with the models `some/model` and `some/gated`, which needs a token."""

    fetched = []

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_GET(self):
        if "some/gated" in self.path:
            return self.answer(401, X_Error_Code="GatedRepo")
        if self.path.startswith("/api/models/some/model"):
            siblings = [{"rfilename": name} for name in FILES]
            info = {"id": "some/model", "sha": COMMIT, "siblings": siblings}
            tree = [
                {"type": "file", "path": name, "size": len(body), "oid": COMMIT}
                for name, body in FILES.items()
            ]
            body = json.dumps(tree if "/tree/" in self.path else info).encode()
            return self.answer(200, body, Content_Type="application/json")
        name = self.path.rpartition("/")[2]
        if self.path.startswith("/some/model/resolve/") and name in FILES:
            if self.command == "GET":
                self.fetched.append(name)
            etag = f'"{hashlib.sha256(FILES[name]).hexdigest()}"'
            return self.answer(200, FILES[name], ETag=etag, X_Repo_Commit=COMMIT)
        return self.answer(404, X_Error_Code="RepoNotFound")

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def ask(tmp_path):
    """Runs `local_folder` in a new process, because settings are read at start."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Hub.fetched.clear()
    program = (
        "import sys\n"
        "from jaxsearch.models.hub import WEIGHTS, local_folder\n"
        "try:\n"
        "    print(local_folder(sys.argv[1], 'model', WEIGHTS))\n"
        "except ValueError as error:\n"
        "    print('ERROR', error)\n"
    )
    environment = os.environ | {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path / "cache"),
        "HF_HUB_DISABLE_XET": "1",
    }

    def ask(name, **others):
        done = subprocess.run(
            [sys.executable, "-c", program, name],
            capture_output=True,
            text=True,
            env=environment | others,
        )
        assert not done.returncode, done.stderr
        return done.stdout.strip().splitlines()[-1]

    yield ask
    server.shutdown()
    server.server_close()


def test_a_model_is_fetched_once_and_without_what_is_not_read(ask, tmp_path):
    folder = ask("some/model")
    assert folder.startswith(str(tmp_path / "cache"))
    assert sorted(os.listdir(folder)) == ["config.json", "model.safetensors"]
    assert ask("some/model") == folder
    assert sorted(Hub.fetched) == ["config.json", "model.safetensors"]


def test_a_cache_that_is_not_whole_is_no_folder(ask, tmp_path):
    folder = ask("some/model")
    os.remove(os.path.join(folder, "model.safetensors"))
    told = ask("some/model", HF_HUB_OFFLINE="1")
    assert told.startswith("ERROR model folder some/model does not exist, and as an id")
    assert "cannot be fetched: " in told and Hub.fetched.count("config.json") == 1
    # Online, it is fetched again.
    assert ask("some/model") == folder


@pytest.mark.parametrize(
    ("name", "environment"),
    [
        ("some/model", {"HF_HUB_OFFLINE": "1"}),
        ("some/model", {"HF_ENDPOINT": "http://127.0.0.1:9"}),
        ("some/model", {"HF_HOME": "/dev/null"}),
        ("some/bad name", {}),
        ("some--other/model", {}),
        ("some/.model", {}),
    ],
)
def test_what_the_library_raises_is_one_line(ask, name, environment):
    told = ask(name, **environment)
    assert told.startswith(f"ERROR model folder {name} does not exist, and as an id")
    assert not told.endswith("fetched: ")


def test_what_cannot_be_fetched_says_why(ask):
    assert ask("some/gated") == (
        "ERROR model some/gated is gated: ask for access on its page of the Hub, then "
        "set HF_TOKEN or run `hf auth login`"
    )
    told = ask("some/other")
    assert told.startswith("ERROR model folder some/other does not exist; nor is it on")
    assert ask("./here").startswith("ERROR model folder ./here does not exist")
