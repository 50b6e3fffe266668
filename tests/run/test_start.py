"""How a run starts: what it says, --resume and --fresh."""

import dataclasses
import errno
import functools
import itertools
import os
from pathlib import Path

import pytest

from jaxsearch.commands.main import main
from jaxsearch.data.question import flashrag_line
from jaxsearch.disk_errors import DiskError
from jaxsearch.json_lines import read_lines, replace_lines
from jaxsearch.run.checkpoint import Progress
from jaxsearch.run.data_notes import data_notes
from jaxsearch.run.folder import check_identity, read_run_config, write_record
from jaxsearch.run.inputs import load_inputs
from jaxsearch.run.start import check_resumable, fresh_folder, start_line
from jaxsearch.train import train
from tests.commands.test_main import QUICKSTART, refused
from tests.tiny import dataset, tiny_config


def at(stage: int, stage_step: int, step: int) -> Progress:
    return Progress(step=step, stage=stage, stage_step=stage_step, stream=None)


@pytest.mark.parametrize(
    ("restored", "line"),
    [
        (None, "a new run of 7 steps (3 of read, 4 of search) in run"),
        (at(0, 2, 2), "resuming run after step 2 of 7"),
        # The first stage is complete, the run is not.
        (at(0, 3, 3), "resuming run after step 3 of 7"),
        (at(1, 3, 6), "resuming run after step 6 of 7"),
        (
            at(1, 4, 7),
            "run is complete, after step 7; a larger --stages.1.steps than 4 continues"
            "; --fresh starts it again from its first step",
        ),
    ],
)
def test_a_run_says_from_which_step_it_goes_on(restored, line):
    assert start_line(tiny_config(Path("run")), restored) == line


@pytest.mark.parametrize("stage_step", [2, 3])
def test_a_run_that_steps_ended_says_how_it_goes_on(stage_step):
    config = tiny_config(Path("run"), steps=2)
    line = start_line(config, at(1, stage_step, 3 + stage_step))
    assert "complete" in line and "a larger --steps than 2 continues" in line


def test_fresh_keeps_earlier_runs_under_other_names(tmp_path):
    folder = tmp_path / "run"
    for seed in (1, 2, 3):
        with fresh_folder(folder):
            assert not folder.exists()
            write_record(tiny_config(folder, seed=seed), frozen="")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["run", "run.1", "run.2"]
    for name, seed in (("run.1", 1), ("run.2", 2), ("run", 3)):
        assert f'"seed": {seed},' in (tmp_path / name / "config.json").read_text()


def test_a_refused_run_gives_the_earlier_one_its_name_back(tmp_path, capsys):
    folder = tmp_path / "run"
    write_record(tiny_config(folder), frozen="")
    with pytest.raises(ValueError, match="bad data"), fresh_folder(folder):
        raise ValueError("bad data")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    # What has been written meanwhile stays.
    with pytest.raises(ValueError, match="later"), fresh_folder(folder):
        folder.mkdir()
        raise ValueError("later")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run.1"]


def test_fresh_leaves_a_folder_that_is_no_run(tmp_path):
    (tmp_path / "mine").mkdir()
    with fresh_folder(tmp_path / "mine"), fresh_folder(tmp_path / "new"):
        assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("order", ["before", "after"])
def test_resume_refuses_to_start_a_new_run(capsys, tmp_path, order):
    out = tmp_path / "none"
    words = [QUICKSTART, "--out", str(out)]
    words.insert(0 if order == "before" else 3, "--resume")
    line = refused(capsys, "train", *words)
    assert line == (
        f"jaxsearch train: --resume: {out} has no checkpoint to resume from; leave out "
        "--resume to start a new run"
    )
    assert not out.exists()


def test_resume_accepts_a_run_with_a_checkpoint(tmp_path):
    (tmp_path / "checkpoints" / "20").mkdir(parents=True)
    check_resumable(tmp_path)


def test_resume_and_fresh_exclude_each_other(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--resume", "--fresh", QUICKSTART])
    assert stopped.value.code == 2
    assert "not allowed with" in capsys.readouterr().err


@pytest.mark.parametrize("first", [["--rewind", "10"], ["--resume"]])
def test_they_exclude_each_other_on_both_sides_of_the_config(capsys, tmp_path, first):
    out = tmp_path / "run"
    write_record(tiny_config(out), frozen="")
    words = [*first, QUICKSTART, "--fresh", "--out", str(out)]
    line = refused(capsys, "train", *words)
    assert first[0] in line and "--fresh" in line and "exclude each other" in line
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def with_questions(config, per_step: int):
    """The config whose steps take so many questions."""
    read, search = config.stages
    search = dataclasses.replace(search, questions_per_step=per_step)
    return dataclasses.replace(config, stages=(read, search))


def test_questions_that_repeat_within_a_step_are_said(tmp_path):
    config = tiny_config(tmp_path / "run")
    inputs = load_inputs(config)
    num = len(inputs.questions["search"])

    def notes(per_step: int) -> list[str]:
        found = data_notes(with_questions(config, per_step), inputs, has_search=True)
        return [note for note in found if "repeat" in note]

    [note] = notes(num + 1)
    assert note.startswith(
        f"stage 'search' has {num} questions and takes {num + 1} per"
    )
    assert note.endswith(f"--stages.1.questions-per-step {num} takes each once")
    assert len(notes(4 * num)) == 1
    assert notes(num) == notes(1) == []


# ----------------------------------------------- interrupted before it has a record


class Interrupted(BaseException):
    """Stands for the kill of a process."""


@pytest.fixture
def held_out(tmp_path):
    """A config of one step that holds out questions of its own file."""
    lines = map(flashrag_line, dataset(None, 0).questions[:120])
    replace_lines(tmp_path / "own.jsonl", lines)
    config = tiny_config(tmp_path / "run")
    data = dataclasses.replace(config.data, questions=str(tmp_path / "own.jsonl"))
    return dataclasses.replace(config, data=data)


@pytest.fixture
def start(monkeypatch):
    """Trains until the folder has the run's record."""

    def record_prompt(*_):
        raise Interrupted

    def start(config):
        with monkeypatch.context() as patched, pytest.raises(Interrupted):
            patched.setattr("jaxsearch.train.record_prompt", record_prompt)
            train(config)
        assert read_run_config(Path(config.out)).data == config.data

    return start


def fail_at(number, error, patched):
    """Raises at the Nth call that writes to the disk or renames a file."""
    calls = itertools.count(1)

    def call(real, *args):
        if next(calls) == number:
            if isinstance(error, Interrupted):  # a kill leaves all files
                patched.setattr(Path, "unlink", lambda path, **_: None)
            raise error
        return real(*args)

    for name in ("fsync", "replace"):
        patched.setattr(os, name, functools.partial(call, getattr(os, name)))


def heldout_questions(config):
    lines = read_lines(Path(config.out) / "heldout.jsonl")
    return [line["question"] for line in lines]


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_run_killed_before_its_record_starts_again(
    held_out, start, monkeypatch, number
):
    folder, pid = Path(held_out.out), os.getpid()
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        fail_at(number, Interrupted(), patched)
        train(held_out)
    last = f".heldout.jsonl.{pid}" if number < 3 else f".config.json.{pid}"
    rest = ["heldout.jsonl"] if number > 2 else []
    assert names_in(folder) == [last, *rest, "run.lock"]
    # What a kill while the lock is taken leaves.
    (folder / f".run.lock.{'0f' * 8}").touch()
    (folder / f".run.lock.{'0f' * 8}.probe").touch()
    start(held_out)
    assert len(heldout_questions(held_out)) == 12


@pytest.mark.parametrize("number", [1, 3])
def test_a_run_whose_disk_was_full_starts_again(held_out, start, monkeypatch, number):
    with monkeypatch.context() as patched:
        fail_at(number, OSError(errno.ENOSPC, "full"), patched)
        with pytest.raises(DiskError, match="make room"):
            train(held_out)
    folder = Path(held_out.out)
    # The temporary file has given its room back.
    assert not folder.exists() if number == 1 else names_in(folder) == ["heldout.jsonl"]
    start(held_out)


@pytest.mark.slow
def test_held_out_questions_of_an_interrupted_start_are_not_those_of_the_next(
    held_out, start, monkeypatch, capsys
):
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        fail_at(3, Interrupted(), patched)
        train(held_out)
    before = heldout_questions(held_out)
    folder = Path(held_out.out)
    data = dataclasses.replace(held_out.data, heldout_share=0.2)
    more = dataclasses.replace(held_out, data=data)
    start(more)
    assert len(before) == 12 and len(heldout_questions(more)) == 24
    assert load_inputs(more).own_heldout
    kept = [line["question"] for line in read_lines(folder / "heldout.jsonl.1")]
    assert kept == before and f"are kept in {folder}/heldout.jsonl.1" in (
        capsys.readouterr().out
    )
    # A start that holds out nothing keeps them under another name too.
    (folder / "config.json").unlink()
    few = flashrag_line(dataset(None, 0).questions[0])
    replace_lines(Path(held_out.data.questions), [few])
    start(held_out)
    assert not (folder / "heldout.jsonl").exists()
    assert (folder / "heldout.jsonl.2").exists()
    assert load_inputs(held_out).own_heldout == []


@pytest.mark.parametrize(
    "name", ["data.csv", ".heldout.jsonl.mine", "heldout.jsonl.gz", ".run.lock.x"]
)
def test_a_folder_with_files_of_the_user_is_refused(held_out, name):
    folder = Path(held_out.out)
    folder.mkdir()
    check_identity(held_out)
    (folder / name).touch()
    with pytest.raises(ValueError, match="is not a run's folder"):
        check_identity(held_out)


@pytest.mark.parametrize("weight", ["", "=2"])
def test_a_file_that_the_config_reads_is_not_the_record_of_a_start(held_out, weight):
    path = Path(held_out.out) / "heldout.jsonl"
    path.parent.mkdir()
    path.touch()
    check_identity(held_out)
    for name in ("heldout", "questions"):
        data = dataclasses.replace(held_out.data, **{name: f"{path}{weight}"})
        with pytest.raises(ValueError, match="is not a run's folder"):
            check_identity(dataclasses.replace(held_out, data=data))
