"""Checkpoints with missing or short files are named, and the one before is used."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsearch.commands.main import main
from jaxsearch.rl.update import TrainState
from jaxsearch.run.build import open_run
from jaxsearch.run.checkpoint import Checkpoints, Progress, saved_steps
from jaxsearch.run.checkpoint_choice import choose_checkpoint
from jaxsearch.run.checkpoint_damage import damage, damaged_steps, set_aside
from jaxsearch.run.checkpoint_hashes import HASHES
from jaxsearch.run.export import export_run
from jaxsearch.run.folder import write_record
from jaxsearch.run.start import check_rewind, rewind
from jaxsearch.train import train
from tests.hf_folders import read_here
from tests.tiny import tiny_config

STEPS = (2, 4, 6)


def params_of(step, shapes):
    """Numbers that do not compress, because small ones are kept in the index."""
    rng = np.random.default_rng(step)
    return jax.tree.map(
        lambda one: rng.normal(size=one.shape).astype(one.dtype), shapes
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run's folder with three checkpoints."""
    config = tiny_config(tmp_path_factory.mktemp("runs") / "run")
    run = open_run(config)
    checkpoints = Checkpoints(Path(config.out), keep=len(STEPS))
    for step in STEPS:
        params = params_of(step, run.transformer.shapes)
        params = jax.device_put(params, run.param_shardings)
        zero = jnp.zeros((), jnp.int32)
        progress = Progress(step=step, stage=0, stage_step=step, stream=None)
        checkpoints.save(progress, TrainState(params, {}, {}, zero, zero))
    checkpoints.close()
    write_record(config, "")
    return Path(config.out)


@pytest.fixture
def folder(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "run"))


def empty(checkpoint):
    shutil.rmtree(checkpoint)
    checkpoint.mkdir()


def without(name):
    def remove(checkpoint):
        path = checkpoint / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return remove


def cut(pattern):
    def shorten(checkpoint):
        [path] = checkpoint.glob(pattern)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return shorten


def other_metadata(checkpoint):
    path = checkpoint / "_CHECKPOINT_METADATA"
    fields = json.loads(path.read_text())
    path.write_text(json.dumps({**fields, "custom_metadata": None}))


def no_index(checkpoint):
    path = checkpoint / "state" / "manifest.ocdbt"
    path.write_bytes(bytes(path.stat().st_size))


HARMS = [
    (empty, "it is empty"),
    (without("_CHECKPOINT_METADATA"), "_CHECKPOINT_METADATA is missing"),
    (cut("_CHECKPOINT_METADATA"), "_CHECKPOINT_METADATA is not JSON"),
    (other_metadata, "_CHECKPOINT_METADATA does not have the run's progress"),
    (without("state"), "state/_METADATA is missing"),
    (cut("state/_METADATA"), "state/_METADATA is not JSON"),
    (without("state/manifest.ocdbt"), "state/manifest.ocdbt is missing"),
    (no_index, "state/manifest.ocdbt is damaged: "),
    (without("state/d"), "state/d/"),
    (cut("state/d/*"), "state/d/"),
    (without("state/ocdbt.process_0"), "state/ocdbt.process_0/d/"),
    (cut("state/ocdbt.process_0/d/*"), "state/ocdbt.process_0/d/"),
]


@pytest.mark.parametrize(("harm", "told"), HARMS)
def test_the_step_before_a_damaged_one_is_used(folder, harm, told):
    config = tiny_config(folder)
    assert damaged_steps(folder) == {} and choose_checkpoint(config).step == 6
    harm(folder / "checkpoints" / "6")
    for which in ("", "last"):
        choice = choose_checkpoint(config, which)
        assert choice.step == 4 and choice.folder.name == "4"
        assert f"{folder}/checkpoints/6 is damaged: {told}" in choice.notice
        assert choice.notice.endswith("; step 4 is used") and "\n" not in choice.notice
    [(step, reason)] = damaged_steps(folder).items()
    assert step == 6 and reason.startswith(told)
    with pytest.raises(ValueError, match=r"6 is damaged: .*checkpoint can be 2, 4$"):
        choose_checkpoint(config, "6")


def files_of(checkpoint):
    return sorted(path for path in checkpoint.rglob("*") if path.is_file())


def flipped(path):
    """One bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def zeroed(path):
    """A block, as after a crash of the machine; the size is as before."""
    data = path.read_bytes()
    begin = len(data) // 3
    block = data[begin : begin + 512]
    path.write_bytes(data[:begin] + bytes(len(block)) + data[begin + len(block) :])


@pytest.mark.parametrize("harm", [flipped, zeroed])
def test_a_changed_bit_in_any_file_is_named(folder, harm):
    checkpoint = folder / "checkpoints" / "6"
    assert len(files_of(checkpoint)) > 6
    for path in files_of(checkpoint):
        before = path.read_bytes()
        harm(path)
        reason = damage(checkpoint, has_progress=True)
        assert path.relative_to(checkpoint).as_posix() in reason, path
        path.write_bytes(before)
    assert not damage(checkpoint, has_progress=True)


def test_hashes_are_compared_with_files_of_the_checkpoint_alone(folder):
    checkpoint = folder / "checkpoints" / "6"
    (checkpoint / "state" / "more").write_text("planted")
    assert "state/more is not in hashes.json" in damage(checkpoint, has_progress=True)
    (checkpoint / "state" / "more").unlink()
    listed = json.loads((checkpoint / HASHES).read_text())
    for name in (
        "../../config.json",
        "/etc/hostname",
        "\ud800",
        "y" * 300,
        "y/" * 3000,
    ):
        (checkpoint / HASHES).write_text(json.dumps(listed | {name: [1, "0"]}))
        reason = damage(checkpoint, has_progress=True)
        assert reason.startswith(f"{HASHES} names {name!r:.100}, which is no file")
    # Killed before they were written, or of an earlier version.
    (checkpoint / HASHES).unlink()
    assert not damage(checkpoint, has_progress=True)


def without_questions(config, folder):
    """The config and record of a run whose file of questions is gone."""
    data = dataclasses.replace(config.data, questions=str(folder / "gone.jsonl"))
    config = dataclasses.replace(config, data=data)
    write_record(config, "")
    return config


def test_a_refused_run_does_not_go_back(folder):
    config = tiny_config(folder)
    before = files_of(folder)
    with pytest.raises(ValueError, match=r"^--rewind 3: .* but of: 2, 4, 6$"):
        train(config, rewind_to=3)
    with pytest.raises(ValueError, match="holds another run: seed is 0 there and 7"):
        train(dataclasses.replace(config, seed=7), rewind_to=4)
    with pytest.raises(ValueError, match="gone.jsonl"):
        train(without_questions(config, folder), rewind_to=4)
    assert files_of(folder) == before


def test_damage_after_the_step_that_a_run_goes_back_to_does_not_count(folder):
    empty(folder / "checkpoints" / "6")
    assert damaged_steps(folder, 4) == {} and damaged_steps(folder).keys() == {6}


def test_a_run_goes_back_to_a_kept_step(folder, capsys):
    for step in (2, 6):
        shutil.copytree(folder / "checkpoints" / str(step), folder / "best" / str(step))
    check_rewind(folder, 4)
    rewind(folder, 4)
    assert saved_steps(folder / "checkpoints") == [2, 4]
    assert saved_steps(folder / "best") == [2]
    kept = [folder / "checkpoints" / "later-6", folder / "best" / "later-6"]
    assert capsys.readouterr().err.splitlines() == [
        f"the later checkpoint is kept in {path}" for path in kept
    ]
    assert all(path.is_dir() for path in kept)
    checkpoints = Checkpoints(folder, keep=3)
    assert checkpoints.latest().step == 4
    checkpoints.close()


def test_some_checkpoints_are_kept_for_good(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1, keep_every=4)
    zero = jnp.zeros((), jnp.int32)
    for step in range(1, 8):
        progress = Progress(step=step, stage=0, stage_step=step, stream=None)
        checkpoints.save(progress, TrainState({"w": zero}, {}, {}, zero, zero))
    checkpoints.close()
    assert saved_steps(tmp_path / "checkpoints") == [4, 7]
    assert not any(
        damage(tmp_path / "checkpoints" / str(step), has_progress=True)
        for step in (4, 7)
    )


def test_a_run_continues_from_the_step_before(folder):
    for step in (6, 4):
        empty(folder / "checkpoints" / str(step))
    assert set_aside(folder, damaged_steps(folder)) == (
        f"{folder}/checkpoints: damaged: step 6 (it is empty), step 4 (it is empty); "
        "renamed, and the run continues from step 2"
    )
    checkpoints = Checkpoints(folder, keep=3)
    assert checkpoints.latest().step == 2 and checkpoints.steps() == [2]
    checkpoints.close()
    # The step may be damaged again.
    empty(folder / "checkpoints" / "2")
    shutil.copytree(folder / "checkpoints" / "damaged-4", folder / "checkpoints" / "4")
    shutil.copytree(
        folder.parent / "run" / "checkpoints" / "damaged-6",
        folder / "checkpoints" / "6",
    )
    with pytest.raises(ValueError, match=r"none of the checkpoints can be read: step"):
        damaged_steps(folder)


def test_a_damaged_best_gives_the_best_before_it(folder):
    config = tiny_config(folder)
    for step in (2, 4):
        shutil.copytree(folder / "checkpoints" / str(step), folder / "best" / str(step))
    assert choose_checkpoint(config).folder == folder / "best" / "4"
    empty(folder / "best" / "4")
    choice = choose_checkpoint(config)
    assert choice.folder == folder / "best" / "2"
    assert f"{folder}/best/4 is damaged: it is empty; step 2" in choice.notice
    # The step that is named is whole in the other folder.
    assert choose_checkpoint(config, "4").folder == folder / "checkpoints" / "4"
    empty(folder / "best" / "2")
    assert choose_checkpoint(config).folder == folder / "checkpoints" / "6"
    with pytest.raises(ValueError, match=r"best/2 is damaged: .* can be 2, 4, 6$"):
        choose_checkpoint(config, "best")


def test_an_export_has_the_parameters_of_the_step_before(folder, tmp_path, capsys):
    empty(folder / "checkpoints" / "6")
    exported = export_run(folder, tmp_path / "hf", dtype="float32")
    assert exported["checkpoint"].startswith("step 4 of ")
    [line] = capsys.readouterr().err.splitlines()
    assert line == (
        f"checkpoint {folder}/checkpoints/6 is damaged: it is empty; step 4 is used"
    )
    transformer = open_run(tiny_config(folder)).transformer
    written = read_here(tmp_path / "hf", transformer)
    jax.tree.map(
        np.testing.assert_array_equal, written, params_of(4, transformer.shapes)
    )


@pytest.mark.parametrize("command", ["export", "eval", "ask"])
def test_no_checkpoint_left_is_one_line(folder, tmp_path, capsys, command):
    for step in saved_steps(folder / "checkpoints"):
        empty(folder / "checkpoints" / str(step))
    out = str(tmp_path / "out")
    words = {
        "export": ["export", str(folder), out],
        "eval": ["eval", "--model", str(folder), "--out", out],
        "ask": ["ask", "--model", str(folder), "Who?"],
    }
    assert main(words[command]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"{folder}/checkpoints/6 is damaged: it is empty; " in line
    assert line.endswith("; no other checkpoint is left")
    assert not Path(out).exists()
