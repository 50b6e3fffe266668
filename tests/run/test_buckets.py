"""Runs in a bucket: order of writing, copies, and the lock; fsspec's memory store."""

import dataclasses
import json
import os
import shutil
import time
from contextlib import nullcontext
from pathlib import Path

import fsspec
import jax
import pytest

from jaxsearch.commands.main import main
from jaxsearch.run import bucket_folder as folders
from jaxsearch.run import bucket_lock as locks
from jaxsearch.run.bucket import Bucket, BucketError
from jaxsearch.run.bucket_download import download
from jaxsearch.run.bucket_folder import bucket_folder, copy_home
from jaxsearch.run.bucket_lock import BucketLock, Holder
from jaxsearch.run.bucket_upload import Uploads
from jaxsearch.run.checkpoint import saved_steps
from jaxsearch.run.checkpoint_hashes import changed_file, write_hashes
from jaxsearch.try_again import TryAgainError

ADDRESS = "memory://bucket/runs/one"


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = fsspec.filesystem("memory")
    found.store.clear()
    yield found
    found.store.clear()


class FailingBucket(Bucket):
    """A bucket that fails after some writes and deletions, like a killed process."""

    num_left = 10**9

    def _count(self):
        if self.num_left == 0:
            raise BucketError("no more")
        self.num_left -= 1

    def write(self, name, data):
        self._count()
        super().write(name, data)

    def upload(self, file, name):
        self._count()
        super().upload(file, name)

    def delete(self, names):
        for name in names:
            self._count()
            super().delete([name])


def add_checkpoint(folder: Path, step: int) -> None:
    state = folder / "checkpoints" / str(step) / "state"
    state.mkdir(parents=True)
    for name in ("a", "b"):
        (state / name).write_text(f"{name} of {step}")
    write_hashes(state.parent)


def step_of_run(folder: Path, step: int) -> None:
    """A step's files, in the order in which a run writes them; one is kept."""
    folder.mkdir(exist_ok=True)
    if step == 1:
        (folder / "heldout.jsonl").write_text('{"id": "1"}\n')
    (folder / "config.json").write_text('{"identity": {}}')
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": step}) + "\n")
    add_checkpoint(folder, step)
    if step > 1:
        shutil.rmtree(folder / "checkpoints" / str(step - 1))


def resumable(bucket: Bucket, folder: Path) -> int:
    """The step that a machine without any file would continue from."""
    download(bucket, folder, bucket.sizes())
    # Otherwise it would train on the questions that were held out.
    assert (folder / "heldout.jsonl").exists() or not (folder / "config.json").exists()
    steps = saved_steps(folder / "checkpoints")
    for step in steps:
        checkpoint = folder / "checkpoints" / str(step)
        assert (checkpoint / "hashes.json").is_file() and not changed_file(checkpoint)
    last = max(steps, default=0)
    lines = (folder / "metrics.jsonl").read_text().splitlines() if last else []
    assert [json.loads(line)["step"] for line in lines][:last] == [*range(1, last + 1)]
    return last


@pytest.mark.slow
def test_a_run_continues_from_whatever_was_written(tmp_path):
    """Killed after every write and deletion: lines and a whole checkpoint are there."""
    found = []
    for num_writes in range(40):
        address = f"{ADDRESS}{num_writes}"
        bucket, folder = FailingBucket(address), tmp_path / f"run{num_writes}"
        bucket.num_left = num_writes
        uploads, before = Uploads(bucket, folder, (), ()), 0
        try:
            for step in range(1, 5):
                step_of_run(folder, step)
                while uploads.run():
                    pass
                before = step
        except BucketError:
            pass
        last = resumable(Bucket(address), tmp_path / "other")
        assert last >= before
        found.append(last)
    assert found == sorted(found) and set(found) == {0, 1, 2, 3, 4}


def test_what_is_not_whole_stays_here(tmp_path):
    """Temporary files, half a line, a checkpoint without hashes, and the one before."""
    bucket, folder = Bucket(ADDRESS), tmp_path / "run"
    step_of_run(folder, 1)
    uploads = Uploads(bucket, folder, (), ())
    assert uploads.run() == 6 and uploads.run() == 0
    step_of_run(folder, 2)
    (folder / "checkpoints/2/hashes.json").unlink()
    (folder / ".config.json.7").write_text("")
    (folder / "run.lock").write_text("")
    (folder / "checkpoints/3.orbax-checkpoint-tmp").mkdir()
    (folder / "checkpoints/3.orbax-checkpoint-tmp/x").write_text("")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"st')
    assert uploads.run() == 2  # the lines, and config.json again
    assert bucket.read("metrics.jsonl") == b'{"step": 1}\n{"step": 2}\n'
    assert resumable(bucket, tmp_path / "other") == 1
    write_hashes(folder / "checkpoints/2")
    while uploads.run():
        pass
    there = bucket.sizes()
    assert {name.split("/")[1] for name in there if name.startswith("check")} == {"2"}
    assert not [name for name in there if "tmp" in name or name.startswith(".")]
    # A checkpoint of the same step that differs replaces it.
    shutil.rmtree(folder / "checkpoints/2")
    add_checkpoint(folder, 2)
    (folder / "checkpoints/2/state/a").write_text("another")
    write_hashes(folder / "checkpoints/2")
    uploads.run()
    assert resumable(bucket, tmp_path / "other") == 2
    assert (tmp_path / "other/checkpoints/2/state/a").read_text() == "another"


def opened(said=None, address=ADDRESS):
    say = (lambda line: None) if said is None else said.append
    return bucket_folder(address, say, lambda call: nullcontext())


def test_a_copy_is_used_again_unless_another_machine_has_trained(tmp_path, monkeypatch):
    said = []
    with opened(said) as folder:
        step_of_run(folder, 1)
    assert said == [f"the run is in {ADDRESS}"]
    assert (folder, "run.lock") == (copy_home(ADDRESS) / "run", locks.LOCK)
    # This machine has more than the bucket.
    (folder / "notes.txt").write_text("x")
    with opened() as folder:
        assert (folder / "notes.txt").exists()
    assert Bucket(ADDRESS).read("notes.txt") == b"x"
    here = folder / "checkpoints/1/state/a"
    before = here.stat().st_ino
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    with opened(said) as other:
        assert other != folder and (other / "notes.txt").read_text() == "x"
        step_of_run(other, 2)
    assert said[-2].startswith(f"{ADDRESS}: copying 7 files to {other}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (folder / "only here.txt").write_text("x")
    with opened() as folder:
        assert saved_steps(folder / "checkpoints") == [2]
        assert not (folder / "only here.txt").exists()
    # A checkpoint that both have is not copied again.
    shutil.copytree(other / "checkpoints/2", tmp_path / "kept")
    inode = (folder / "checkpoints/2/state/a").stat().st_ino
    (copy_home(ADDRESS) / "bucket_key").unlink()
    with opened() as folder:
        assert (folder / "checkpoints/2/state/a").stat().st_ino == inode != before


def test_a_bucket_that_fails_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "_PAUSE_S", 0.01)
    monkeypatch.setattr(folders, "_LONGEST_PAUSE_S", 0.01)
    said, fails = [], []
    write = Bucket.write

    def failing(bucket, name, data):
        if fails and name != locks.LOCK:
            raise BucketError("status 503")
        write(bucket, name, data)

    monkeypatch.setattr(Bucket, "write", failing)
    with opened(said) as folder:
        fails.append(True)
        step_of_run(folder, 1)
        while not said:
            time.sleep(0.01)
        fails.clear()
        while len(said) < 2:
            time.sleep(0.01)
    assert said == [
        "status 503; the run goes on, and it is tried again",
        f"{ADDRESS} has all changes again",
        f"the run is in {ADDRESS}",
    ]
    monkeypatch.setattr(folders, "_END_S", 0.1)
    with pytest.raises(TryAgainError, match="the same command writes it to memory"):
        with opened(said) as folder:
            fails.append(True)
            step_of_run(folder, 2)
    fails.clear()
    with opened() as folder:
        pass
    assert resumable(Bucket(ADDRESS), tmp_path / "other") == 2


def test_one_process_trains_in_a_bucket(monkeypatch):
    monkeypatch.setattr(locks, "_BEAT_S", 0.05)
    bucket, said = Bucket(ADDRESS), []
    first = BucketLock(bucket, said.append)
    assert first.before is None
    other = dataclasses.replace(first.holder, host="elsewhere", key="k")

    def hold(beat):
        holder = dataclasses.replace(other, beat=beat)
        bucket.write(locks.LOCK, json.dumps(dataclasses.asdict(holder)).encode())

    first.release()
    hold(beat=-1)
    BucketLock(bucket, said.append).release()
    # One that does not beat has ended; one on this host is looked for.
    hold(beat=3)
    lock = BucketLock(bucket, said.append)
    assert lock.before == dataclasses.replace(other, beat=3)
    assert said == [
        f"process {os.getpid()} on elsewhere trains in {ADDRESS} since "
        f"{other.started}; stop it, or choose another folder with --out; waiting for "
        "it to end"
    ]
    lock.release()
    ended = Holder(key="k", host=other.host, process=2**22 + 1, started="x")
    assert locks._is_gone(dataclasses.replace(ended, host=os.uname().nodename))
    assert not locks._is_gone(ended)

    # One that beats keeps the lock, and is refused.
    beats = iter(range(10**6))
    monkeypatch.setattr(time, "sleep", lambda seconds: hold(next(beats)))
    hold(beat=0)
    with pytest.raises(TryAgainError, match="on elsewhere trains in"):
        BucketLock(bucket, said.append)


def test_what_cannot_be_used_is_one_line(store, tmp_path, monkeypatch, capsys):
    for address, said in (
        ("memory://bucket", "expected a bucket and a folder, as memory://BUCKET/runs"),
        ("unheard://bucket/x", "Protocol not known: unheard"),
    ):
        with pytest.raises(ValueError, match=said), opened(address=address):
            pass
    store.pipe_file("/bucket/other/data.csv", b"x")
    with pytest.raises(ValueError, match=r"is not a run's folder \(no config.json\)"):
        with opened(address="memory://bucket/other"):
            pass
    assert [*store.find("/bucket/other")] == ["/bucket/other/data.csv"]
    for name in ("../x", "a/../../x", "/x"):
        with pytest.raises(ValueError, match="is no file of a run"):
            download(Bucket(ADDRESS), tmp_path / "run", {name: 1})
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ValueError, match="a run of 2 processes needs a folder that"):
        with opened():
            pass
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = ["train", "quickstart", "--out", ADDRESS, "--fresh"]
    assert main(words) == 2
    assert "--fresh is not for a run in a bucket" in capsys.readouterr().err


class Stopped(BaseException):
    """Stands for the kill of a process."""


@pytest.fixture
def stop_at(monkeypatch):
    """Stops at the Nth call that reads or writes, before or after it."""
    monkeypatch.setattr(locks, "_BEAT_S", 3600.0)  # beats go on after a stop here
    calls = {"left": -1, "when": ""}

    def wrap(owner, name):
        real = getattr(owner, name)

        def call(*args, **options):
            calls["left"] -= 1
            if calls["left"] == 0 and calls["when"] == "before":
                raise Stopped
            found = real(*args, **options)
            if calls["left"] == 0 and calls["when"] == "after":
                raise Stopped
            return found

        monkeypatch.setattr(owner, name, call)

    for name in ("sizes", "read", "write", "upload", "download"):
        wrap(Bucket, name)
    for name in ("replace_file", "equal_checkpoints", "download"):
        wrap(folders, name)

    def stop_at(left, when):
        calls["left"], calls["when"] = left, when

    return stop_at


def stopped_at(stop_at, number, when, address):
    """Whether a command was stopped before its run could begin."""
    stop_at(number, when)
    try:
        with opened(address=address):
            stop_at(-1, "")
    except Stopped:
        return True
    finally:
        stop_at(-1, "")
    return False


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_only_this_machine_has_survives_a_stop_anywhere(
    stop_at, tmp_path, monkeypatch, when
):
    """Stopped once and twice at each call before the run begins, then started again."""
    number, write = 1, Bucket.write
    while True:
        address = f"{ADDRESS}{number}{when}"
        monkeypatch.setattr(folders, "_END_S", 0.0)

        def failing(bucket, name, data):
            if name != locks.LOCK:
                raise BucketError("status 503")
            write(bucket, name, data)

        with opened(address=address) as folder:
            step_of_run(folder, 1)
        # The last changes do not reach the bucket.
        with monkeypatch.context() as down, pytest.raises(TryAgainError):
            with opened(address=address) as folder:
                down.setattr(Bucket, "write", failing)
                with (folder / "metrics.jsonl").open("a") as file:
                    file.write('{"step": 2}\n')
        monkeypatch.setattr(folders, "_END_S", 900.0)
        was_stopped = stopped_at(stop_at, number, when, address)
        stopped_at(stop_at, number, when, address)
        with opened(address=address) as folder:
            assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2, number
        there = Bucket(address).read("metrics.jsonl")
        assert there == b'{"step": 1}\n{"step": 2}\n'
        if not was_stopped:
            break
        number += 1
    assert number > 6


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_stop_anywhere_does_not_hide_that_another_machine_has_trained(
    stop_at, tmp_path, monkeypatch, when
):
    """Before it and after it a command is stopped here, at each call."""
    here, number = str(tmp_path / "cache"), 1
    while True:
        address = f"{ADDRESS}{number}{when}"
        with opened(address=address) as folder:
            step_of_run(folder, 1)
        was_stopped = stopped_at(stop_at, number, when, address)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
        with opened(address=address) as other:
            step_of_run(other, 2)
        monkeypatch.setenv("XDG_CACHE_HOME", here)
        (folder / "only here.txt").write_text("x")
        stopped_at(stop_at, number, when, address)
        with opened(address=address) as folder:
            assert saved_steps(folder / "checkpoints") == [2], number
            assert not (folder / "only here.txt").exists()
        if not was_stopped:
            break
        number += 1
    assert number > 6


def mirror(folder, said, address=ADDRESS):
    bucket = Bucket(address)
    lock = BucketLock(bucket, said.append)
    return folders._Mirror(address, lock, Uploads(bucket, folder, (), ()), said.append)


def test_steps_that_end_faster_than_a_look_for_changes(tmp_path, monkeypatch):
    """Between two looks there is a pause, and the lock is checked before each."""
    folder, said, events = tmp_path / "run", [], []
    step_of_run(folder, 1)
    run, check = Uploads.run, BucketLock.check

    def counted(uploads):
        if len(events) > 60:
            raise Stopped
        events.append("look")
        found = run(uploads)
        with (folder / "metrics.jsonl").open("a") as file:
            file.write("{}\n")
        return found

    def checked(lock):
        events.append("check")
        check(lock)

    monkeypatch.setattr(Uploads, "run", counted)
    monkeypatch.setattr(BucketLock, "check", checked)
    monkeypatch.setattr(folders, "_PAUSE_S", 0.2)
    mirrored = mirror(folder, said)
    time.sleep(0.7)
    assert events[1:][: 2 * 2] == ["check", "look"] * 2 and len(events) <= 1 + 2 * 3
    # A process that is asked to end stops writing, even if the run does not.
    assert not mirrored.finish(0.0)
    assert said == [f"{ADDRESS} lacks the last changes"]
    monkeypatch.setattr(Uploads, "run", run)
    assert mirrored.finish(0.0)
    content = (folder / "metrics.jsonl").read_bytes()
    assert Bucket(ADDRESS).read("metrics.jsonl") == content


def test_a_local_file_that_cannot_be_read_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "_PAUSE_S", 0.01)
    monkeypatch.setattr(folders, "_LONGEST_PAUSE_S", 0.01)
    folder, said, failed = tmp_path / "run", [], []
    step_of_run(folder, 1)
    run = Uploads.run

    def failing(uploads):
        if len(failed) < 3:
            failed.append(True)
            raise OSError(5, "Input/output error", "metrics.jsonl")
        return run(uploads)

    monkeypatch.setattr(Uploads, "run", failing)
    mirrored, give_up = mirror(folder, said), time.monotonic() + 10.0
    while len(said) < 2 and time.monotonic() < give_up:
        time.sleep(0.01)
    assert said == [
        "[Errno 5] Input/output error: 'metrics.jsonl'; the run goes on, and it is "
        "tried again",
        f"{ADDRESS} has all changes again",
    ]
    assert Bucket(ADDRESS).read("metrics.jsonl") == b'{"step": 1}\n'
    assert mirrored.finish(1.0)


def test_placeholders_of_folders_are_no_files(tmp_path, monkeypatch):
    """Objects of 0 bytes that consoles make; stores name them in several ways."""
    bucket, found = Bucket(ADDRESS), {}
    root = bucket._root

    def placeholder(name, size=0, kind="file"):
        found[f"{root}{name}"] = {"size": size, "type": kind}

    for name in ("", "/", "/checkpoints/", "/rollouts", "/rollouts//"):
        placeholder(name)
    placeholder("/best", kind="directory")
    for name in ("/config.json", "/rollouts/a", "/empty"):
        placeholder(name, size=name != "/empty")
    monkeypatch.setattr(bucket._files, "find", lambda *_, **__: found, raising=False)
    assert bucket.sizes() == {"config.json": 1, "rollouts/a": 1, "empty": 0}
