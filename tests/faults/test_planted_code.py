"""Code planted in folders of runs, indexes and models is never executed."""

import dataclasses
import functools
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxsearch.commands.main import main
from jaxsearch.data.formats import read_questions
from jaxsearch.data.prepare import prepare_set
from jaxsearch.data.set_checksums import CHECKSUMS, checksums
from jaxsearch.models.tensor_files import open_tensors
from jaxsearch.rewards.tasks import RESEARCH, Task
from jaxsearch.run import trust
from jaxsearch.run.config_file import read_config
from jaxsearch.run.config_record import resolved, restored
from jaxsearch.run.config_values import recorded
from jaxsearch.run.config_values import restored as value_restored
from jaxsearch.run.folder import check_identity, read_run_config
from jaxsearch.search.exact_index import ExactIndex
from jaxsearch.search.passages import Passage
from jaxsearch.search.tfidf_encoder import TfidfEncoder
from tests.tokenizer_folders import write_tokenizer

ROOT = Path(__file__).resolve().parents[2]
# Writes the marker when it is imported, and has what each field of a config expects.
PLANTED = """
import os, pathlib
from jaxsearch.rewards.tasks import RESEARCH as TASK
pathlib.Path(os.environ["MARKER"]).touch()
class Retriever:
    def search(self, queries, k):
        return [[] for _ in queries]
RETRIEVER = Retriever()
def reward(question, answer, *, searches, row):
    return 1.0
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A run's folder with a planted module, which is the current folder too."""
    monkeypatch.setattr(trust, "_trusted", set())
    monkeypatch.setattr(trust, "_own_names", set())
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("MARKER", str(tmp_path / "executed"))
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "planted.py").write_text(PLANTED)
    monkeypatch.chdir(folder)
    yield folder
    sys.modules.pop("planted", None)


def marker():
    return Path(os.environ["MARKER"])


def touching(name, keyword, **more):
    """A record of a function that would write the marker if it were called."""
    return {"function": name, "keywords": {keyword: ["touch", str(marker())], **more}}


def plants():
    command = "touch $MARKER"
    return {
        "a program": (
            "retrieval.retriever",
            lambda: touching("subprocess:call", "args"),
        ),
        "a program as an object": (
            "retrieval.retriever",
            lambda: {"object": "subprocess:call", "fields": {"args": command}},
        ),
        "a shell": (
            "data.source",
            lambda: {"function": "os:system", "keywords": {"command": command}},
        ),
        "a shell as a task": (
            "stages.-1.task",
            lambda: {"object": "os:system", "fields": {"command": command}},
        ),
        "a module": ("retrieval.retriever", lambda: "planted:RETRIEVER"),
        "a file": ("retrieval.retriever", lambda: "planted.py:RETRIEVER"),
        "a file by its path": ("stages.-1.reward", lambda: "./planted.py:reward"),
        "a task": ("stages.-1.task", lambda: "planted:TASK"),
        "a reward": ("stages.-1.reward", lambda: ["planted:reward"]),
        "an encoder": ("retrieval.encoder", lambda: "planted:RETRIEVER"),
        "our import of a module": (
            "retrieval.retriever",
            lambda: {
                "function": "jaxsearch.user_code:import_named",
                "keywords": {"module": "planted.py"},
            },
        ),
        "our import of a task": (
            "retrieval.retriever",
            lambda: {
                "function": "jaxsearch.rewards.tasks:task_named",
                "keywords": {"name": "planted.py:TASK"},
            },
        ),
        "our reader of configs": (
            "retrieval.retriever",
            lambda: {
                "function": "jaxsearch.run.config_file:read_config",
                "keywords": {"path": "planted.py"},
            },
        ),
        "a module of a module of ours": (
            "retrieval.retriever",
            lambda: {
                "function": "jaxsearch.data.sample:importlib.import_module",
                "keywords": {"name": "planted"},
            },
        ),
        "the globals of a class of ours": (
            "retrieval.retriever",
            lambda: "jaxsearch.rewards.contract:Task.__init__.__globals__",
        ),
        "a class that is only imported there": (
            "retrieval.retriever",
            lambda: {
                "object": "jaxsearch.data.sample:Path",
                "fields": {},
            },
        ),
        "a function instead of a class": (
            "retrieval.retriever",
            lambda: {"object": "jaxsearch.data.sample:dataset", "fields": {}},
        ),
        "a partial of a partial": (
            "data.source",
            lambda: {
                "function": touching("subprocess:call", "args"),
                "keywords": {"shell": True},
            },
        ),
        "a program among the keywords of ours": (
            "data.source",
            lambda: {
                "function": "jaxsearch.data.sample:dataset",
                "keywords": {"more": {"object": "subprocess:call", "fields": {}}},
            },
        ),
    }


def plant(folder, path, value):
    """Puts a value into the record of a quickstart's run."""
    record = json.loads(json.dumps(resolved(read_config("quickstart"))))
    record |= {"identity": {}, "code": {"planted": str(folder)}}
    *parents, last = path.split(".")
    place = record
    for key in parents:
        place = place[-1 if key == "-1" else key]
    place[last] = value
    (folder / "config.json").write_text(json.dumps(record))


@pytest.mark.parametrize("name", plants())
def test_nothing_that_a_runs_folder_names_is_executed(folder, capsys, name):
    path, make = plants()[name]
    plant(folder, path, make())
    with pytest.raises(ValueError) as refused:
        read_run_config(folder)
    assert "\n" not in str(refused.value)
    config = dataclasses.replace(read_config("quickstart"), out=str(folder))
    with pytest.raises(ValueError):
        check_identity(config)
    for words in (
        ["ask", "--model", str(folder), "Who?"],
        ["eval", "--model", str(folder), "--out", "results"],
        ["export", str(folder), "exported"],
        ["config", "diff", "quickstart", str(folder)],
        ["train", "quickstart", "--resume", "--out", str(folder)],
    ):
        assert main(words) == 2, words
        said = capsys.readouterr().err
        assert len(said.splitlines()) == 1, said
        [line] = said.splitlines()
        assert line.startswith(f"jaxsearch {words[0]}: ")
    main(["report", str(folder)])
    assert not marker().exists()


def test_the_refusal_says_what_to_type_and_trust_works(folder, capsys):
    plant(folder, "retrieval.retriever", "planted:RETRIEVER")
    assert main(["config", "diff", "quickstart", str(folder)]) == 2
    said = capsys.readouterr().err
    assert "--trust planted," in said and f"it was in {folder} when" in said
    assert not marker().exists()
    words = ["config", "diff", "quickstart", str(folder), "--trust", "planted"]
    assert main(words) == 0
    assert marker().exists()


@pytest.mark.parametrize("package", ["subprocess", "os.path", "jaxsearch", "a b", ""])
def test_what_can_run_anything_cannot_be_trusted(folder, package):
    with pytest.raises(ValueError, match="--trust"):
        trust.trust(package)


def test_a_trusted_package_gives_only_what_it_defines(folder):
    (folder / "lender.py").write_text("import os\nfrom subprocess import call\n")
    trust.trust("lender")
    for name in ("lender:call", "lender:os.system", "lender:os"):
        with pytest.raises(trust.UntrustedError):
            trust.named_in_folder(name)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (dataclasses.replace(RESEARCH, name="other", uses_end=False), Task),
        (functools.partial(TfidfEncoder.fit, dims=64), "encoder"),
    ],
    ids=["task", "encoder"],
)
def test_values_of_this_package_need_no_trust(folder, value, hint):
    hint = (
        read_config("quickstart").retrieval.__annotations__["encoder"]
        if (hint == "encoder")
        else hint
    )
    record = json.loads(json.dumps(recorded(value, hint)))
    again = value_restored(record, hint)
    assert recorded(again, hint) == recorded(value, hint)


@pytest.mark.parametrize("name", sorted(p.stem for p in ROOT.glob("configs/*.py")))
def test_runs_of_the_packages_configs_need_no_trust(folder, name):
    config = read_config(name)
    assert restored(json.loads(json.dumps(resolved(config)))) == config


class Pickle:
    def __reduce__(self):
        return Path.touch, (marker(),)


def test_no_pickle_in_an_index_folder_is_opened(folder, capsys):
    passages = [Passage(id=str(n), contents=f"passage {n}") for n in range(20)]
    index = folder / "index"
    ExactIndex(passages, TfidfEncoder.fit(passages, dims=64)).save(index)
    assert main(["index", "search", str(index), "passage 3"]) == 0
    for name in ("vectors/scann_docids.pkl", "encoder/sitecustomize.py", "x.pkl"):
        (index / name).write_bytes(pickle.dumps(Pickle()))
        for action in (["search", str(index), "passage"], ["check", str(index)]):
            assert main(["index", *action]) == 2
        assert f"{name} is not listed" in capsys.readouterr().err
        (index / name).unlink()
    # An array of objects is a pickle too.
    vectors = index / "vectors" / "00000.npy"
    np.save(vectors, np.array([Pickle()], dtype=object), allow_pickle=True)
    manifest = json.loads((index / "index.json").read_text())
    manifest["files"]["vectors/00000.npy"]["bytes"] = vectors.stat().st_size
    (index / "index.json").write_text(json.dumps(manifest))
    assert main(["index", "search", str(index), "passage"]) == 2
    assert not marker().exists()


def test_the_features_of_a_prepared_set_import_nothing(folder, monkeypatch):
    """TensorFlow Datasets imports the classes that they name."""
    monkeypatch.setenv("JAXSEARCH_DATA", str(folder / "sets"))
    monkeypatch.syspath_prepend(folder)
    lines = folder / "mine.jsonl"
    lines.write_text('{"id": "a", "question": "Who?", "golden_answers": ["Ann"]}')
    [prepared] = prepare_set("mine", str(lines))
    features = prepared.folder / "features.json"
    text = features.read_text()
    planted = text.replace("tensorflow_datasets.core.features.text_feature", "planted")
    assert planted != text
    features.write_text(planted)
    (prepared.folder / CHECKSUMS).write_text(json.dumps(checksums(prepared.folder)))
    assert [question.id for question in read_questions("mine")] == ["a"]
    assert not marker().exists()


def model_folder(folder):
    """A model's folder whose every code file and pickle writes the marker."""
    model = folder / "model"
    write_tokenizer(model)
    classes = {
        "AutoConfig": "planted.Config",
        "AutoModelForCausalLM": "planted.Model",
        "AutoTokenizer": ["planted.Slow", "planted.Fast"],
    }
    config = {
        "model_type": "qwen2",
        "auto_map": classes,
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "vocab_size": 300,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "max_position_embeddings": 64,
    }
    (model / "config.json").write_text(json.dumps(config))
    tokens = json.loads((model / "tokenizer_config.json").read_text())
    tokens |= {"auto_map": classes, "tokenizer_class": "Fast"}
    (model / "tokenizer_config.json").write_text(json.dumps(tokens))
    (model / "planted.py").write_text(PLANTED)
    (model / "pytorch_model.bin").write_bytes(pickle.dumps(Pickle()))
    (model / "training_args.bin").write_bytes(pickle.dumps(Pickle()))
    return model


def test_no_code_of_a_model_folder_is_executed(folder, capsys, monkeypatch):
    # transformers asks on a terminal whether to trust a folder; "y" must not help.
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    model = model_folder(folder)
    ask = ["ask", "--model", str(model), "Who?"]
    assert main(ask) == 2
    assert "no *.safetensors" in capsys.readouterr().err
    (model / "tokenizer.json").unlink()
    assert main(ask) == 2
    assert "cannot read a tokenizer" in capsys.readouterr().err
    assert not marker().exists()


@pytest.mark.parametrize(
    "name",
    ["../outside.safetensors", "/etc/hostname", "a/../../x.safetensors", 3, None],
)
def test_an_index_of_safetensors_names_nothing_outside(folder, name):
    model = folder / "model"
    model.mkdir()
    save_file({"a": np.zeros(2, np.float32)}, folder / "outside.safetensors")
    index = model / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(ValueError, match=r"model\.safetensors\.index\.json"):
        open_tensors(model)


def test_links_out_of_a_model_folder_are_refused(folder):
    model = folder / "model"
    model.mkdir()
    save_file({"a": np.zeros(2, np.float32)}, folder / "outside.safetensors")
    (model / "model.safetensors").symlink_to(folder / "outside.safetensors")
    with pytest.raises(ValueError, match="is a link to .* outside of"):
        open_tensors(model)
    (model / "circle.safetensors").symlink_to("circle.safetensors")
    (model / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"circle\.safetensors"):
        open_tensors(model)


def test_a_snapshot_of_the_hubs_cache_is_read(folder):
    """Its files are links to the blobs of the same repository."""
    repository = folder / "models--owner--name"
    snapshot = repository / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    save_file({"a": np.zeros(2, np.float32)}, repository / "blobs" / "abcd")
    (snapshot / "model.safetensors").symlink_to("../../blobs/abcd")
    assert open_tensors(snapshot).keys() == {"a"}


@pytest.mark.slow
def test_processes_of_the_commands_execute_nothing(folder, tmp_path):
    plant(folder, "retrieval.retriever", "planted:RETRIEVER")
    model = model_folder(folder)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    for words in (
        ["ask", "--model", ".", "Who?"],
        ["ask", "--model", str(model), "Who?"],
        ["train", "quickstart", "--out", "."],
    ):
        # Not -m, which makes the current folder the first to import from.
        program = (
            "import sys; from jaxsearch.commands.main import main; sys.exit(main())"
        )
        done = subprocess.run(
            [sys.executable, "-P", "-c", program, *words],
            env=environment,
            input="y\n",
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 2, done.stderr
        assert len(done.stderr.splitlines()) <= 2
        assert "Traceback" not in done.stderr
    assert not marker().exists()
