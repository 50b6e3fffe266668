"""Own rewards by name: modules beside the config, files, records, and a whole run."""

import dataclasses
import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from jaxsearch.commands.main import main
from jaxsearch.evaluation.results import evaluate_to
from jaxsearch.json_lines import replace_lines
from jaxsearch.monitor.writers import read_metrics
from jaxsearch.rewards.score import score_file
from jaxsearch.run import trust
from jaxsearch.run.config_file import read_config
from jaxsearch.run.config_record import check_restorable, code_folders, resolved
from jaxsearch.run.folder import read_run_config
from jaxsearch.run.loading import load_run
from jaxsearch.run.options import RunOptions
from jaxsearch.run.overrides import overridden
from jaxsearch.train import train
from tests.tiny import tiny_config

REWARDS = """
def few(question, answer, *, searches, row):
    return {"few": -0.5 * len(searches), "hops": len(str(row["hops"]))}

async def right(questions, answers, *, searches, rows):
    return [a in row["golden_answers"] for a, row in zip(answers, rows)]

SEVERAL = [(few, 2.0), right]
NUMBER = 3
"""
CONFIG = """
import dataclasses
from pathlib import Path
from tests.tiny import tiny_config
config = tiny_config(Path("run"))
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a config and rewards; nothing of it is importable afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = tmp_path / "project"
    (folder / "sub").mkdir(parents=True)
    (folder / "own_config.py").write_text(CONFIG)
    (folder / "own_rewards.py").write_text(REWARDS)
    (folder / "sub" / "sub-rewards.py").write_text(REWARDS)
    monkeypatch.chdir(tmp_path)
    yield folder
    forget()


def forget():
    for name in ("own_rewards", "sub-rewards"):
        sys.modules.pop(name, None)
    sys.path[:] = [path for path in sys.path if "project" not in Path(path).name]


def with_reward(folder, name):
    config = read_config(str(folder / "own_config.py"))
    return overridden(config, ["--stages.1.reward", name], "train own", folder)


@pytest.mark.parametrize(
    ("name", "module", "folder"),
    [
        ("own_rewards:few", "own_rewards", "project"),
        ("own_rewards:SEVERAL", "own_rewards", "project"),
        ("project/own_rewards.py:right", "own_rewards", "project"),
        ("sub/sub-rewards.py:few", "sub-rewards", "project/sub"),
        ("project/sub/sub-rewards.py:SEVERAL", "sub-rewards", "project/sub"),
    ],
)
def test_a_reward_is_found_and_recorded_with_its_folder(project, name, module, folder):
    config = with_reward(project, name)
    reward = vars(sys.modules[module])[name.partition(":")[2]]
    assert config.stages[1].reward is reward
    assert config.task.own_reward is reward
    check_restorable(config)
    folders = code_folders(json.loads(json.dumps(resolved(config))))
    assert folders[module] == str(Path(folder).resolve())
    assert "jaxsearch.data.quickstart" not in folders


def test_the_task_s_own_reward_is_the_default(project):
    config = with_reward(project, "own_rewards:few")
    words = ["--stages.1.reward", "task"]
    assert overridden(config, words, "train own").stages[1].reward is None


def test_a_config_imports_what_is_beside_it(project):
    text = CONFIG + (
        "import own_rewards\n"
        "read, search = config.stages\n"
        "search = dataclasses.replace(search, reward=own_rewards.SEVERAL)\n"
        "config = dataclasses.replace(config, stages=(read, search))\n"
    )
    (project / "own_config.py").write_text(text)
    config = read_config("project/own_config.py")
    check_restorable(config)
    assert config.stages[1].reward[0][0].__name__ == "few"


def test_a_reward_in_the_config_file_is_refused_before_the_run(project):
    text = CONFIG + (
        "def few(question, answer, *, searches, row): return 0.0\n"
        "read, search = config.stages\n"
        "search = dataclasses.replace(search, reward=few)\n"
        "config = dataclasses.replace(config, stages=(read, search))\n"
    )
    (project / "own_config.py").write_text(text)
    with pytest.raises(ValueError, match="own_config:few .* a file beside the config"):
        check_restorable(read_config("project/own_config.py"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_rewards:nothing", "no attribute 'nothing'"),
        ("own_rewards:NUMBER", "expected own_rewards:NUMBER to be a function, got int"),
        ("nowhere.py:few", "there is no file nowhere.py"),
        ("project/json.py:few", "would be the module 'json', which is .*; rename"),
        ("project/tyro.py:few", "would be the module 'tyro', which is .*; rename"),
        ("project/own.rewards.py:few", "would be the module 'own.rewards', .* rename"),
        ("other/own_rewards.py:few", "would be the module 'own_rewards', .* rename"),
        ("project/failing.py:few", "ZeroDivisionError"),
        ("few", "unknown name 'few'.* path/to/file.py:NAME"),
    ],
)
def test_a_reward_that_is_not_found_is_one_line(project, capsys, name, message):
    Path("other").mkdir()
    shutil.copy(project / "own_rewards.py", "other")
    for file in ("json.py", "tyro.py", "own.rewards.py"):
        shutil.copy(project / "own_rewards.py", project / file)
    (project / "failing.py").write_text("1 / 0\n")
    with_reward(project, "own_rewards:few")
    with pytest.raises(SystemExit) as stopped:
        with_reward(project, name)
    assert stopped.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("train own: ") and re.search(message, line)


@pytest.mark.parametrize("name", ["own_rewards:TASK", "project/own_rewards.py:TASK"])
def test_a_line_of_a_data_file_names_no_code(project, tmp_path, capsys, name):
    marked = "from pathlib import Path\nPath('imported').touch()\n"
    (project / "own_rewards.py").write_text(marked)
    sys.path.append(str(project))
    line = {"response": "x", "golden_answers": ["a"], "ended": True}
    replace_lines(tmp_path / "lines.jsonl", [line | {"task": name}])
    with pytest.raises(ValueError, match="line 1: a line may only name a task of jaxs"):
        score_file(tmp_path / "lines.jsonl", "auto")
    assert main(["score", "--task", "auto", "lines.jsonl"]) == 2
    assert "may only name a task" in capsys.readouterr().err
    assert not Path("imported").exists()


def test_a_run_with_an_own_reward_is_resumed_evaluated_and_found_again(
    project, monkeypatch
):
    config = dataclasses.replace(
        with_reward(project, "own_rewards:SEVERAL"), warmup_steps=1, steps=1
    )
    train(config)
    [*_, line] = read_metrics(Path("run/metrics.jsonl"))
    assert line["reward/hops"] >= 2.0 and line["reward/few"] <= 0.0
    parts = line["reward/hops"] + line["reward/few"] + line["reward/right"]
    assert line["reward/mean"] == pytest.approx(parts)

    # As another process, in another folder, does.
    forget()
    trust._own_names.clear()
    message = r"--trust own_rewards, .*; it was in .*project when the run started"
    with pytest.raises(trust.UntrustedError, match=message):
        read_run_config(Path("run"))
    trust.trust("own_rewards")
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    message = "names your module 'own_rewards', which was in .*project when the run"
    # The record names the folder, but a run may come from elsewhere.
    with pytest.raises(ValueError, match=message):
        read_run_config(Path("../run"))
    monkeypatch.setattr(sys, "path", [*sys.path, str(project)])
    results = evaluate_to(Path("results"), model="../run", options=RunOptions(limit=2))
    assert results["mean_reward"] >= 1.0
    own = sys.modules["own_rewards"].SEVERAL
    assert read_run_config(Path("../run")).stages[1].reward == tuple(
        tuple(item) if isinstance(item, tuple) else item for item in own
    )
    run, _ = load_run("../run", RunOptions(task="quickstart", limit=1))
    assert run.task.own_reward is None

    # A project may be moved: its code is no longer there, but beside the config.
    forget()
    trust._trusted.discard("own_rewards")
    project.rename(project.with_name("project2"))
    moved = with_reward(project.with_name("project2"), "own_rewards:SEVERAL")
    moved = dataclasses.replace(moved, warmup_steps=1, out="../run")
    train(dataclasses.replace(moved, steps=2))
    assert len(read_metrics(Path("../run/metrics.jsonl"))) == 3
    other = dataclasses.replace(moved.stages[1], reward=None)
    other = dataclasses.replace(moved, stages=(moved.stages[0], other))
    with pytest.raises(ValueError, match="holds another run: stages.1.reward is"):
        train(other)
    # Another program, which has no value of that module.
    forget()
    trust._own_names.clear()
    with pytest.raises(ValueError, match="holds another run: .*stages.1.reward is"):
        train(other)


def test_tiny_runs_have_no_code_of_their_own(tmp_path):
    config = tiny_config(tmp_path)
    assert config.stages[1].judging_task is config.stages[1].task
