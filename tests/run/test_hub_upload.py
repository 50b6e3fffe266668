"""Exports uploaded to a Hub on loopback."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxsearch.commands.main import main
from jaxsearch.models.lora import LoRAConfig
from jaxsearch.run.hub_upload import CARD, check_upload, write_card
from jaxsearch.train import train
from tests.loopback_hub import MAX_REGULAR_BYTES, TOKEN, running_hub
from tests.tiny import tiny_config

# The command's error path without a run: the files of a finished export are uploaded.
PROGRAM = """
import sys
from pathlib import Path
from jaxsearch.run.hub_upload import check_upload, upload
folder, repo = sys.argv[1:]
try:
    check_upload(repo)
    print(upload(Path(folder), repo, private=False))
except ValueError as error:
    print("ERROR", error)
"""


@pytest.fixture
def hub():
    with running_hub() as hub:
        yield hub


def run(hub, cache, *words, **others):
    environment = os.environ | hub.environment(cache) | {"HF_TOKEN": TOKEN} | others
    command = [sys.executable, *words]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, check=False
    )


@pytest.fixture
def push(hub, tmp_path):
    """Uploads a small folder; returns what was printed."""
    folder = tmp_path / "exported"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(MAX_REGULAR_BYTES + 1))

    def push(repo, **others):
        done = run(hub, tmp_path / "cache", "-c", PROGRAM, str(folder), repo, **others)
        assert done.returncode == 0, done.stderr
        assert TOKEN not in done.stdout + done.stderr
        return done.stdout.strip().splitlines()[-1]

    return push


@pytest.mark.slow
# The library uploads large files in a way that is deprecated in its own dependency.
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_an_export_is_uploaded_with_a_model_card(hub, tmp_path, monkeypatch, capsys):
    # What HF_ENDPOINT and HF_HUB_DISABLE_XET set when the library is imported.
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    config = tiny_config(tmp_path / "run", warmup_steps=1, steps=1)
    train(config)
    words = ["export", config.out, str(tmp_path / "out"), "--dtype", "float32"]
    assert main([*words, "--push-to-hub", "me/policy", "--private"]) == 0
    printed = capsys.readouterr()
    assert f"{hub.url}/me/policy/commit/" in printed.out
    assert TOKEN not in printed.out + printed.err
    files = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert hub.uploaded == {"me/policy": files} and hub.private["me/policy"]
    assert len(files["model.safetensors"]) > MAX_REGULAR_BYTES
    assert sorted(map(len, hub.blobs.values())) == sorted(
        len(body) for body in files.values() if len(body) > MAX_REGULAR_BYTES
    )
    card = files[CARD].decode()
    assert "- Task (prompt format and reward): `quickstart`" in card
    # Refused before anything is computed or written.
    words = ["export", config.out, str(tmp_path / "other")]
    for more, said in {
        ("--push-to-hub", "me"): "--push-to-hub expects OWNER/NAME, got 'me'",
        ("--private",): "--private is about an upload: give --push-to-hub OWNER/NAME",
    }.items():
        assert main([*words, *more]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line == f"jaxsearch export: {said}"
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("repo", "token", "is_offline", "said"),
    [
        ("me/policy", "", False, "needs a token of the Hub: set HF_TOKEN or run"),
        ("me/policy", TOKEN, True, "needs the network, but HF_HUB_OFFLINE is set"),
        ("me/bad name", TOKEN, False, "--push-to-hub me/bad name: Repo id must use"),
        ("policy", TOKEN, False, "expects OWNER/NAME, got 'policy'"),
    ],
)
def test_an_upload_that_cannot_succeed_is_refused_before_it(
    tmp_path, monkeypatch, repo, token, is_offline, said
):
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", tmp_path / "none")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", is_offline)
    with pytest.raises(ValueError, match=said) as refused:
        check_upload(repo)
    assert TOKEN not in str(refused.value)
    if said.startswith("needs a token"):
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        check_upload(repo)


@pytest.mark.parametrize(
    ("status", "blob_status", "environment", "said"),
    [
        (
            0,
            200,
            {"HF_TOKEN": "hf_another"},
            "the Hub does not accept the token: set HF_",
        ),
        (403, 200, {}, "the token may not write to me/policy: set HF_TOKEN"),
        (
            0,
            413,
            {},
            "Error while uploading 'model.safetensors' to the Hub. Client err",
        ),
        (0, 200, {"HF_ENDPOINT": "http://127.0.0.1:9"}, "refused"),
    ],
)
def test_a_refused_upload_says_why_and_how_to_go_on(
    push, hub, tmp_path, status, blob_status, environment, said
):
    hub.status, hub.blob_status = status, blob_status
    line = push("me/policy", **environment)
    assert line.startswith("ERROR me/policy was not uploaded: ") and said in line
    assert line.endswith(f"hf upload me/policy {tmp_path / 'exported'}")
    assert "hf_another" not in line
    assert (tmp_path / "exported" / "config.json").exists()


def test_a_folder_is_uploaded_again(push, hub, tmp_path):
    push("me/policy")
    (tmp_path / "exported" / "config.json").write_text("{1}")
    assert push("me/policy").startswith(f"{hub.url}/me/policy/commit/")
    assert hub.uploaded["me/policy"]["config.json"] == b"{1}"
    assert len(hub.uploaded["me/policy"]["model.safetensors"]) == MAX_REGULAR_BYTES + 1


@pytest.mark.parametrize(
    ("path", "only_adapter", "has", "has_not"),
    [
        ("Qwen/Qwen2.5-7B", False, "base_model: Qwen/Qwen2.5-7B\n", "peft"),
        ("Qwen/Qwen2.5-7B", True, 'from_pretrained("Qwen/Qwen2.5-7B")', "eval"),
        ("/home/me/secret", False, "- Base model: a local folder\n", "secret"),
        ("", False, "- Base model: none, random weights\n", "base_model:"),
        ("jaxsearch:quickstart", False, "`jaxsearch:quickstart`\n", "base_model:"),
    ],
)
def test_the_card_names_base_task_and_how_to_load(
    tmp_path, path, only_adapter, has, has_not
):
    config = tiny_config(tmp_path / "run")
    lora = LoRAConfig(rank=4 if only_adapter else 0)
    model = dataclasses.replace(config.model, path=path, lora=lora)
    config = dataclasses.replace(config, model=model)
    options = {"checkpoint": "step 3 (last)", "only_adapter": only_adapter}
    write_card(tmp_path, "me/policy", config, **options)
    card = Path(tmp_path / CARD).read_text()
    assert card.startswith("---\nlibrary_name: ") and "\n# policy\n" in card
    assert has in card and has_not not in card
    for needed in ("- jaxsearch\n", "- quickstart\n", "step 3 (last)", '"me/policy"'):
        assert needed in card
