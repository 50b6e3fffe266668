"""How a run starts: what it says, --resume and --fresh."""

import dataclasses
from pathlib import Path

import pytest

from jaxsearch.commands.main import main
from jaxsearch.run.checkpoint import Progress
from jaxsearch.run.data_notes import data_notes
from jaxsearch.run.folder import write_record
from jaxsearch.run.inputs import load_inputs
from jaxsearch.run.start import check_resumable, fresh_folder, start_line
from tests.commands.test_main import QUICKSTART, refused
from tests.tiny import tiny_config


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
