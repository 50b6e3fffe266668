"""Changes to a run's config when it resumes."""

import dataclasses
import json
from pathlib import Path

import pytest

from jaxsearch.rl.optimizer import OptimizerConfig
from jaxsearch.run.config_changes import changes, record_changes
from jaxsearch.run.folder import check_identity, write_record
from tests.tiny import tiny_config


def with_fields(config, **sections):
    """The config with other fields, by section; a stage is its number after `stage`."""
    for section, fields in sections.items():
        if section in ("steps", "warmup_steps"):
            config = dataclasses.replace(config, **{section: fields})
            continue
        if section.startswith("stage"):
            stages = list(config.stages)
            number = int(section.removeprefix("stage"))
            stages[number] = dataclasses.replace(stages[number], **fields)
            config = dataclasses.replace(config, stages=tuple(stages))
            continue
        changed = dataclasses.replace(vars(config)[section], **fields)
        config = dataclasses.replace(config, **{section: changed})
    return config


@pytest.fixture
def recorded(tmp_path):
    """The config of a run with checkpoints of two steps."""
    config = tiny_config(tmp_path / "run")
    write_record(config, frozen="")
    for step in (4, 5):
        (tmp_path / "run" / "checkpoints" / str(step)).mkdir(parents=True)
    return config


CHANGES = [
    ({"steps": 2}, "steps", None, 2),
    ({"stage1": {"steps": 9}}, "stages.1.steps", 4, 9),
    ({"rollout": {"num_slots": 4}}, "rollout.num_slots", 8, 4),
    ({"rollout": {"cache_len": 500}}, "rollout.cache_len", None, 500),
    ({"eval": {"every": 1}}, "eval.every", 2, 1),
    ({"eval": {"patience": 3}}, "eval.patience", 0, 3),
    ({"checkpoint": {"every": 1}}, "checkpoint.every", 2, 1),
    ({"checkpoint": {"keep": 9}}, "checkpoint.keep", 2, 9),
    ({"checkpoint": {"keep_every": 4}}, "checkpoint.keep_every", 0, 4),
    ({"checkpoint": {"minutes": 5.0}}, "checkpoint.minutes", 0.0, 5.0),
    ({"checkpoint": {"keep_non_finite": 0}}, "checkpoint.keep_non_finite", 2, 0),
    ({"mesh": {"tensor": 2}}, "mesh.tensor", 1, 2),
    ({"rollout": {"replicas": 2}}, "rollout.replicas", 1, 2),
    ({"model": {"remat": True}}, "model.remat", False, True),
    ({"stage1": {"max_tokens": 256}}, "stages.1.max_tokens", 512, 256),
    ({"stage1": {"max_skipped": 7}}, "stages.1.max_skipped", 5, 7),
    (
        {"stage0": {"optimizer": OptimizerConfig(learning_rate=1e-4)}},
        "stages.0.optimizer.learning_rate",
        1e-3,
        1e-4,
    ),
]


@pytest.mark.parametrize(("sections", "field", "before", "after"), CHANGES)
def test_what_may_change_is_recorded_with_its_step(
    recorded, sections, field, before, after
):
    config = with_fields(recorded, **sections)
    check_identity(config)
    found = changes(config)
    assert found == {field: [before, after]}
    path = f"{config.out}/changes.jsonl"
    assert record_changes(config, found) == (
        f"changed after step 5, and recorded in {path}: {field} from {before} to "
        f"{after}"
    )
    write_record(config, frozen="")
    assert not record_changes(config, changes(config))
    assert json.loads(Path(path).read_text()) == {
        "step": 5,
        "field": field,
        "before": before,
        "after": after,
    }


@pytest.mark.parametrize(
    ("sections", "difference"),
    [
        ({"rollout": {"max_searches": 2}}, "rollout.max_searches is 3 there and 2"),
        ({"eval": {"limit": 3}}, "eval.limit is 6 there and 3"),
        ({"model": {"width": 64}}, "model.width is 32 there and 64"),
        ({"stage1": {"group_size": 2}}, "stages.1.group_size is 4 there and 2"),
    ],
)
def test_what_the_policy_learns_from_may_not_change(recorded, sections, difference):
    with pytest.raises(ValueError, match=f"holds another run: {difference}"):
        check_identity(with_fields(recorded, **sections))


def test_the_steps_of_a_stage_that_has_ended_may_not_change(recorded):
    config = with_fields(recorded, stage0={"steps": 5})
    with pytest.raises(ValueError, match=r"stages\.0\.steps .* 'read' .* at step 3 of"):
        changes(config)


def test_the_limit_of_a_warm_up_may_change_until_it_has_ended(recorded):
    config = with_fields(recorded, warmup_steps=2)
    check_identity(config)
    with pytest.raises(ValueError, match=r"warmup_steps .* 'read' .* at step 3 of"):
        changes(config)
    # Later checkpoints do not count for a run that goes back.
    assert changes(config, newest=3) == {"warmup_steps": [None, 2]}
    for step in (4, 5):
        (Path(config.out) / "checkpoints" / str(step)).rmdir()
    assert changes(config) == {"warmup_steps": [None, 2]}


def test_a_new_run_has_no_changes(tmp_path):
    config = tiny_config(tmp_path / "new")
    assert changes(config) == {} and not record_changes(config, {})


def test_a_record_of_an_earlier_version_has_no_changes(recorded):
    """Fields that it does not have keep their defaults."""
    path = Path(recorded.out) / "config.json"
    record = json.loads(path.read_text())
    for name in ("patience", "min_improvement"):
        del record["eval"][name]
    for name in ("samples_every", "num_samples"):
        del record["logging"][name]
    path.write_text(json.dumps(record))
    check_identity(recorded)
    assert changes(recorded) == {}
