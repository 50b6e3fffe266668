"""Invalid commands print one line and exit with status 2."""

import dataclasses
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxsearch.commands import command_line
from jaxsearch.commands.command_line import COMMANDS
from jaxsearch.commands.main import main
from jaxsearch.config import RLStage, RolloutConfig
from jaxsearch.data import sample
from jaxsearch.run.config_file import read_config
from jaxsearch.run.overrides import overridden

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
QUICKSTART = str(CONFIGS / "quickstart.py")


def refused(capsys, *words: str) -> str:
    """The single line of a command's error."""
    assert main(words) == 2
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1 and "Traceback" not in captured.err
    return lines[0]


def test_help_is_quick(capsys):
    started = time.process_time()
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    assert "jaxsearch train quickstart" in capsys.readouterr().out
    # The bound does not depend on the machine: loading jax alone takes longer.
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(capsys, name):
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: jaxsearch {name}")
    described = COMMANDS[name].description.strip().partition("\n\n")[0]
    assert " ".join(described.split()) in " ".join(shown.split())


@pytest.mark.parametrize("command", ["train", "plan"])
def test_help_after_a_config_lists_its_fields(capsys, command):
    with pytest.raises(SystemExit) as stopped:
        main([command, QUICKSTART, "--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: jaxsearch {command} ")
    assert "--rollout.max-len" in shown


def test_options_may_stand_after_the_config(capsys):
    words = ["--no-compile", "--seed", "3", "--topology", "h200:8", "--json"]
    assert main(["plan", QUICKSTART, *words]) == 0
    assert json.loads(capsys.readouterr().out)["devices"] == 8


@pytest.mark.parametrize(
    ("command", "error", "status", "said"),
    [
        ("doctor", ValueError("bad\ninput"), 2, "jaxsearch doctor: bad input"),
        (
            "doctor",
            KeyboardInterrupt(),
            130,
            "interrupted; the same command starts again",
        ),
        (
            "train",
            KeyboardInterrupt(),
            130,
            "interrupted; the same command continues where it stopped",
        ),
    ],
)
def test_exit_status(capsys, monkeypatch, command, error, status, said):
    def run(args):
        raise error

    monkeypatch.setattr(command_line, "_is_ours", lambda error: True)
    failing = dataclasses.replace(COMMANDS[command], run=run)
    monkeypatch.setitem(COMMANDS, command, failing)
    assert main([command, *[QUICKSTART] * (command == "train")]) == status
    assert capsys.readouterr().err.splitlines() == [said]


def test_a_defect_keeps_its_traceback(monkeypatch):
    def run(args):
        raise ValueError("from a library")

    failing = dataclasses.replace(COMMANDS["doctor"], run=run)
    monkeypatch.setitem(COMMANDS, "doctor", failing)
    with pytest.raises(ValueError, match="from a library"):
        main(["doctor"])


@pytest.mark.parametrize("place", ["notes.txt", "notes.txt/new"])
def test_a_file_in_the_way_of_a_folder_is_one_line(
    capsys, monkeypatch, tmp_path, place
):
    (tmp_path / "notes.txt").touch()

    def run(args):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)

    failing = dataclasses.replace(COMMANDS["doctor"], run=run)
    monkeypatch.setitem(COMMANDS, "doctor", failing)
    assert "notes.txt" in refused(capsys, "doctor")


@pytest.mark.parametrize("place", ["notes.txt", "notes.txt/new", "full"])
def test_an_export_needs_a_new_folder_before_the_run_is_read(capsys, tmp_path, place):
    (tmp_path / "notes.txt").write_text("kept")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    line = refused(capsys, "export", "nowhere", str(tmp_path / place))
    assert line.endswith("; give a new folder")
    assert (tmp_path / "notes.txt").read_text() == "kept"


def test_a_reader_that_ends_first_is_no_error():
    command = [sys.executable, "-P", "-m", "jaxsearch", "config", "list"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(60) == 141 and said == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    "words", [["config", "list"], ["data", "describe"], ["--version"]], ids=" ".join
)
def test_output_to_a_full_disk_is_one_line(words):
    """While the command prints, or when it has ended."""
    command = [sys.executable, "-P", "-m", "jaxsearch", *words]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"jaxsearch {words[0]}: ")
    assert line.endswith("No space left on device")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_command_does_its_work_where_its_output_is_closed(tmp_path, closed):
    line = {"response": "<answer> Ann </answer>", "golden_answers": ["Ann"]}
    (tmp_path / "answers.jsonl").write_text(json.dumps(line | {"ended": True}))
    words = ["score", "answers.jsonl", "--task", "research", "--out", "scored.jsonl"]
    command = [sys.executable, "-P", "-m", "jaxsearch", *words]
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" "$@" {closed}', *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "scored.jsonl").read_text().count("\n") == 1


def test_the_package_runs_as_a_module():
    command = [sys.executable, "-m", "jaxsearch", "score", "--recipe", "x", "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "unknown task 'x'" in done.stderr


@pytest.mark.parametrize(
    ("word", "hint"), [("tran", "near it: train"), ("--stepz", "--help` lists them")]
)
def test_an_unknown_command_is_one_line(word, hint, capsys):
    assert main([word]) == 2
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == 1
    assert f"unknown command {word!r}" in said.err and hint in said.err


def test_nested_results_are_rows(monkeypatch, capsys):
    latency = {"median": 0.66708500000343, "p95": 8.1}
    nested = {"ms": {"1": {"total": latency}}, "settings": {}, "k": 5}
    doctor = dataclasses.replace(COMMANDS["doctor"], run=lambda args: nested)
    monkeypatch.setitem(COMMANDS, "doctor", doctor)
    assert main(["doctor"]) == 0
    assert [
        line.strip().split("  ") for line in capsys.readouterr().out.splitlines()
    ] == [
        ["ms.1.total", "median: 0.6671, p95: 8.1"],
        ["settings", "none"],
        ["k", "5"],
    ]


def test_json_has_numbers_that_are_not_finite_as_text(monkeypatch, capsys):
    found = {"kl": math.nan, "by": {"a": [math.inf, (-math.inf, 0.5)]}}
    doctor = dataclasses.replace(COMMANDS["doctor"], run=lambda args: found)
    monkeypatch.setitem(COMMANDS, "doctor", doctor)
    assert main(["doctor", "--json"]) == 0

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    shown = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert shown == {"kl": "NaN", "by": {"a": ["Infinity", ["-Infinity", 0.5]]}}


def test_no_command_shows_the_help(capsys):
    assert main([]) == 2
    assert "COMMAND" in capsys.readouterr().out


def test_an_unknown_override_names_near_ones(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["train", QUICKSTART, "--rollout.max-lenn", "3"])
    assert stopped.value.code == 2
    assert "--rollout.max-len" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("max-len", "20", "max_prompt_len (28) must be less than max_len (20)"),
        ("max-observation-len", "512", "must be less than max_len"),
        ("top-p", "1.5", "top_p (1.5) must be in (0, 1]"),
        ("top-k", "0", "top_k must be at least 1"),
    ],
)
def test_an_impossible_value_is_one_line(capsys, tmp_path, option, value, expected):
    """Before the folder is written, and not after a supervised stage."""
    out = str(tmp_path / "run")
    words = (f"--rollout.{option}", value, "--out", out)
    try:
        line = refused(capsys, "train", QUICKSTART, *words)
    except SystemExit as stopped:
        assert stopped.code == 2
        line = " ".join(capsys.readouterr().err.split())
    assert expected in line
    assert not Path(out).exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", str(CONFIGS / "quickstrat.py")), "near it: quickstart.py"),
        (("train", QUICKSTART, "--model.attention", "splash"), "needs a TPU; got cpu"),
        (("report", "nowhere"), "nowhere"),
        (("export", "nowhere", "out"), "not a run's folder"),
        (("score", "--recipe", "reserch", "x.jsonl"), "research"),
        (("index", "search", "nowhere", "q"), "nowhere"),
        (("index", "build", "--corpus", "no.jsonl", "--out", "x"), "no.jsonl"),
        (("eval", "--model", "./nowhere", "--out", "x"), "nowhere"),
    ],
)
def test_bad_input_is_one_line(capsys, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, *words)
    assert list(tmp_path.iterdir()) == []


def test_a_real_run_needs_a_tokenizer(capsys, tmp_path):
    out = str(tmp_path / "run")
    config = str(CONFIGS / "hotpotqa_real.py")
    assert "--model.tokenizer" in refused(capsys, "train", config, "--out", out)
    line = refused(
        capsys, "train", config, "--out", out, "--model.tokenizer", "./nowhere"
    )
    assert "nowhere does not exist" in line
    assert not Path(out).exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("papers = object()\npapers.researchh()", "line 2: AttributeError: 'object'"),
        ("{}['x']", "line 1: KeyError: 'x'"),
        ("def config(:", "SyntaxError"),
    ],
)
def test_a_config_that_fails_is_named_with_its_line(tmp_path, text, message):
    path = tmp_path / "own.py"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"own.py.*{message}"):
        read_config(str(path))


def test_overrides_reach_nested_fields():
    config = overridden(
        read_config(QUICKSTART),
        ["--stages.0.objective.kl-weight", "0.5", "--seed", "7", "--steps", "2"],
        "quickstart",
    )
    assert config.stages[0].objective.kl_weight == 0.5
    assert (config.seed, config.steps) == (7, 2)
    assert [config.num_steps(s) for s in config.stages if isinstance(s, RLStage)] == [2]


def test_values_are_checked_where_they_are_given():
    with pytest.raises(ValueError, match="num_slots must be at least 1, got 0"):
        RolloutConfig(num_slots=0)
    with pytest.raises(ValueError, match="group_size must be at least 2, got 1"):
        RLStage(name="x", steps=1, group_size=1)


def test_a_stage_whose_task_is_a_name_is_refused_in_one_line():
    # Without the type checks of the tests, which come before the config's own.
    program = (
        "from jaxsearch.config import RLStage; "
        "RLStage(name='x', steps=1, task='serach')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ValueError: a stage's task must be a Task, such as ")
    assert "got 'serach'" in last


def test_short_demonstrations_take_two_searches_at_most():
    made = sample.short_demonstrations(0)
    assert len(made) > 200
    assert max(len(one.observations) for one in made) == 2


@pytest.mark.parametrize(
    "words",
    [
        ("ask", "--model", "nothing", "Who is \udcff?"),
        ("index", "search", "nothing", "Who is \udcff?"),
    ],
)
def test_bytes_that_are_not_utf8_are_refused(capsys, words):
    """Python gives such an argument of a command as half of a surrogate pair."""
    assert "half of a surrogate pair ('\\udcff') at character 8" in refused(
        capsys, *words
    )


def test_a_config_may_begin_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(Path(QUICKSTART).read_text(), encoding="utf-8-sig")
    assert read_config(str(path)).stages == read_config(QUICKSTART).stages
