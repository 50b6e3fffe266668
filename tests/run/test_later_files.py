"""Files that a run wrote after the step that it resumes from."""

from jaxsearch.json_lines import append_line, read_lines
from jaxsearch.run.later_files import remove_later

EVALUATIONS = {2: "before_rl", 4: "after_rl", 6: "after_rl"}


def written(folder, name):
    path = folder / "rollouts" / name
    path.parent.mkdir(exist_ok=True)
    path.touch()


def names(folder):
    return sorted(path.name for path in (folder / "rollouts").iterdir())


def test_what_was_written_after_a_step_is_removed(tmp_path):
    for step in range(1, 7):
        line = {"step": step, "stage": "rl"}
        append_line(tmp_path / "metrics.jsonl", line)
        if step in EVALUATIONS:
            line |= {"name": EVALUATIONS[step], "n": 5, "em": 0.5}
            append_line(tmp_path / "eval.jsonl", line)
    for step in (3, 4, 5, 1_000_000):
        written(tmp_path, f"step_{step:06d}.jsonl.gz")
    for name in ("before_rl.jsonl.gz", "after_rl.jsonl.gz", "own.jsonl.gz"):
        written(tmp_path, name)
    remove_later(tmp_path, 6)
    assert len(names(tmp_path)) == 6
    # The rollouts after RL are those of the evaluation that is removed.
    remove_later(tmp_path, 4)
    steps = ["step_000003.jsonl.gz", "step_000004.jsonl.gz"]
    assert names(tmp_path) == ["before_rl.jsonl.gz", "own.jsonl.gz", *steps]
    assert [line["step"] for line in read_lines(tmp_path / "eval.jsonl")] == [2, 4]
    assert len(read_lines(tmp_path / "metrics.jsonl")) == 4
    remove_later(tmp_path, 1)
    assert names(tmp_path) == ["own.jsonl.gz"]


def test_a_new_run_has_nothing_to_remove(tmp_path):
    remove_later(tmp_path, 0)
    assert not any(tmp_path.iterdir())
