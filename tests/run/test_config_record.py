"""A config as JSON: every value is restored, also from records of earlier versions."""

import dataclasses
import functools
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jaxsearch.config import RolloutConfig
from jaxsearch.data import quickstart
from jaxsearch.env.search import search_only
from jaxsearch.rewards.tasks import TASKS, Task
from jaxsearch.rl.advantages import group_centred
from jaxsearch.rl.losses import kl_k2
from jaxsearch.run import config_values
from jaxsearch.run.config_file import read_config
from jaxsearch.run.config_record import (
    check_restorable,
    identity,
    resolved,
    restored,
)
from jaxsearch.run.folder import check_identity, read_run_config
from jaxsearch.run.loading import with_policy
from jaxsearch.run.overrides import overridden

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
QUICKSTART = str(Path(__file__).with_name("quickstart_of_c19b706.py"))
# Written by `train configs/quickstart.py --warmup-steps 12 --steps 3 --eval.limit 8`
# at commit c19b706.
OLD_RECORD = Path(__file__).with_name("config_c19b706.json")
OLD_OVERRIDES = ["--warmup-steps", "12", "--steps", "3", "--eval.limit", "8"]


@pytest.mark.parametrize("name", sorted(p.name for p in CONFIGS.glob("*.py")))
def test_every_config_reads_and_restores_from_its_record(name):
    config = read_config(str(CONFIGS / name))
    assert config.out == f"runs/{Path(name).stem}"
    assert restored(json.loads(json.dumps(resolved(config)))) == config


def raised(rewards, is_kept=None, *, power=1.0):
    return rewards**power


@dataclasses.dataclass(frozen=True)
class Scaled:
    """A user-defined object that holds a function."""

    function: Callable[..., Any]
    factor: float = 1.0

    def __call__(self, rewards, is_kept=None):
        return self.factor * self.function(rewards, is_kept)


def config_with(advantage):
    config = read_config(QUICKSTART)
    *warm_up, search = config.stages
    search = dataclasses.replace(search, advantage=advantage)
    return dataclasses.replace(config, stages=(*warm_up, search))


def through_json(value, hint):
    record = json.loads(json.dumps(config_values.recorded(value, hint)))
    return record, config_values.restored(record, hint)


def test_a_function_with_keywords_is_recorded_with_them():
    config = config_with(functools.partial(raised, power=2.0))
    record = json.loads(json.dumps(resolved(config)))
    again = restored(record)
    assert again.stages[-1].advantage(3.0) == 9.0
    assert resolved(again) == record
    check_restorable(config)


def test_an_object_is_recorded_with_its_fields():
    scaled = Scaled(raised, factor=2.0)
    record, again = through_json(scaled, Callable[..., Any])
    assert record["object"] == f"{__name__}:Scaled"
    assert record["fields"]["factor"] == 2.0
    assert again == scaled
    assert through_json(scaled, Any)[1] == scaled


def test_a_function_among_the_keywords_of_another_comes_back():
    value = functools.partial(raised, power=Scaled(raised))
    assert through_json(value, Callable[..., Any])[1].keywords == value.keywords
    value = functools.partial(raised, power=raised)
    assert through_json(value, Any)[1].keywords == {"power": raised}


OWN_TASK = dataclasses.replace(TASKS["research"], name="own")


def test_a_task_is_recorded_by_name():
    assert through_json(TASKS["search_r1"], Task) == ("search_r1", TASKS["search_r1"])
    assert through_json(OWN_TASK, Task) == (f"{__name__}:OWN_TASK", OWN_TASK)


def test_a_task_without_a_name_is_recorded_with_its_fields():
    task = dataclasses.replace(OWN_TASK, uses_end=False)
    record, again = through_json(task, Task)
    assert record["object"] == "jaxsearch.rewards.contract:Task"
    assert again == task


@pytest.mark.parametrize(
    ("advantage", "message"),
    [
        (lambda rewards, is_kept: rewards, "must be defined in an importable module"),
        (
            functools.partial(raised, 1.0),
            "keywords alone, got .1.0,. for .*:raised",
        ),
        (Scaled(lambda rewards: rewards), "must be defined in an importable module"),
    ],
)
def test_a_function_that_no_record_could_name_is_refused(advantage, message):
    with pytest.raises(ValueError, match=message):
        check_restorable(config_with(advantage))


class Multiplier:
    """An object of a user's own that is no dataclass."""

    def __init__(self, factor):
        self.factor = factor

    def times(self, rewards, is_kept=None):
        return self.factor * rewards

    @classmethod
    def of_class(cls, rewards, is_kept=None):
        return rewards


@functools.wraps(group_centred)
def wrapped(rewards, is_kept):
    return 100 * group_centred(rewards, is_kept)


def locally_wrapped():
    @functools.wraps(group_centred)
    def doubled(rewards, is_kept):
        return 2 * group_centred(rewards, is_kept)

    return doubled


TIMES_THREE = Multiplier(3.0).times
SQUARE = lambda rewards, is_kept=None: rewards**2  # noqa: E731


@pytest.mark.parametrize(
    "advantage",
    [
        Multiplier(7.0).times,
        functools.partial(Multiplier(7.0).times, is_kept=None),
        Scaled(Multiplier(7.0).times),
        locally_wrapped(),
    ],
    ids=["method", "partial of a method", "field that is a method", "wrapped"],
)
def test_a_function_with_the_name_of_another_is_refused(advantage):
    with pytest.raises(ValueError, match="cannot be recorded in a run's folder"):
        check_restorable(config_with(advantage))


@pytest.mark.parametrize(
    ("advantage", "name"),
    [
        (TIMES_THREE, "TIMES_THREE"),
        (wrapped, "wrapped"),
        (SQUARE, "SQUARE"),
        (Multiplier.of_class, "Multiplier.of_class"),
    ],
)
def test_a_constant_is_recorded_by_its_own_name(advantage, name):
    config = config_with(advantage)
    check_restorable(config)
    assert resolved(config)["stages"][-1]["advantage"] == f"{__name__}:{name}"
    assert restored(resolved(config)).stages[-1].advantage == advantage


@dataclasses.dataclass(frozen=True)
class Derived:
    factor: float
    square: float = dataclasses.field(init=False, default=0.0)

    def __post_init__(self):
        object.__setattr__(self, "square", self.factor**2)

    def __call__(self, rewards, is_kept=None):
        return self.square * rewards


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    factor: float

    def __call__(self, rewards, is_kept=None):
        return self.factor * rewards


@dataclasses.dataclass
class Doubling:
    factor: float

    def __post_init__(self):
        self.factor *= 2

    def __call__(self, rewards, is_kept=None):
        return self.factor * rewards


@pytest.mark.parametrize("value", [Derived(3.0), Slotted(2.0)])
def test_fields_that_are_no_arguments_are_computed_again(value):
    check_restorable(config_with(value))
    assert through_json(value, Callable[..., Any])[1] == value


def test_an_object_that_its_fields_do_not_make_again_is_refused():
    with pytest.raises(ValueError, match="factor is 4.0 there and 8.0 here"):
        check_restorable(config_with(Doubling(2.0)))


def test_a_partial_without_arguments_is_its_function():
    config = config_with(functools.partial(raised))
    check_restorable(config)
    assert identity(config) == identity(config_with(raised))


def test_a_partial_as_source_of_another_policys_tokenizer(tmp_path):
    """Its error names the function, and equal partials are one source."""
    source = functools.partial(quickstart.dataset, seed=1)
    config = read_config(QUICKSTART)
    config = dataclasses.replace(
        config, data=dataclasses.replace(config.data, source=source)
    )
    folder = old_run(tmp_path / "run")
    (folder / "checkpoints").mkdir()
    with pytest.raises(ValueError, match=r"quickstart:dataset with seed=1 of seed 0"):
        with_policy(config, str(folder))
    record = {**resolved(config), "identity": {}}
    (folder / "config.json").write_text(json.dumps(record))
    assert with_policy(config, str(folder)).data == config.data


# ------------------------------------------------------------------- earlier versions


def old_run(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(OLD_RECORD.read_text())
    return folder


def test_a_run_folder_with_the_names_of_c19b706_is_the_same_run(tmp_path):
    out = str(old_run(tmp_path / "run"))
    config = read_config(QUICKSTART)
    now = overridden(config, [*OLD_OVERRIDES, "--out", out], "quickstart.py")
    there = read_run_config(Path(out))
    assert there.data.source is quickstart.dataset
    assert identity(there) == identity(now)
    check_identity(now)
    other = dataclasses.replace(now, rollout=RolloutConfig(max_len=1024))
    with pytest.raises(ValueError, match="rollout.max_len is 120 there and 1024 here"):
        check_identity(other)


@pytest.mark.parametrize(
    ("section", "name", "value", "message"),
    [
        ("model", "prompt_date", {"kind": "x"}, "ModelConfig.prompt_date must be str"),
        ("model", "lora", "x", "ModelConfig.lora must be LoRAConfig"),
        ("rollout", "num_slots", 1.5, "RolloutConfig.num_slots must be int, got 1.5"),
        ("rollout", "num_slots", True, "RolloutConfig.num_slots must be int, got True"),
        ("rollout", "cache_len", "x", r"cache_len must be int \| None, got 'x'"),
        ("rollout", "on_search_failure", "x", "on_search_failure must be .*'drop'"),
        ("checkpoint", "minutes", None, "CheckpointConfig.minutes must be float"),
        (None, "data", [], r"RunConfig.data must be DataConfig, got \[\]"),
        (None, "guards", 0, "RunConfig.guards must be GuardConfig, got 0"),
        (None, "stages", {}, "RunConfig.stages must be tuple"),
    ],
)
def test_a_value_of_another_type_is_named(tmp_path, section, name, value, message):
    folder = old_run(tmp_path / "run")
    record = json.loads((folder / "config.json").read_text())
    (record if section is None else record.setdefault(section, {}))[name] = value
    (folder / "config.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=message) as raised:
        read_run_config(folder)
    assert len(str(raised.value)) < 1000


def test_old_names_of_overrides_are_said_and_work(capsys):
    words = ["--model.is-rematerialised", "True", "--stages.3.updates-per-step=2"]
    config = overridden(read_config(QUICKSTART), words, "quickstart.py")
    assert config.model.remat
    assert config.stages[3].minibatches_per_step == 2
    assert capsys.readouterr().err.splitlines() == [
        "jaxsearch: --model.is-rematerialised is now called --model.remat",
        "jaxsearch: --stages.3.updates-per-step is now called "
        "--stages.3.minibatches-per-step",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "from jaxsearch.config import *\nRLStage(name='x', steps=1, recipe='y')",
            "line 2: .*recipe is now called task",
        ),
        (
            "from jaxsearch.data import sample\nsample.material",
            "line 2: .*sample:material is now called .*sample:dataset",
        ),
        (
            "from jaxsearch.rewards.recipes import Recipe",
            "line 1: .*recipes is now called jaxsearch.rewards.tasks",
        ),
    ],
)
def test_a_config_file_with_an_old_name_is_told_the_new_one(tmp_path, text, message):
    path = tmp_path / "own.py"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as raised:
        read_config(str(path))
    assert "\n" not in str(raised.value)


# --------------------------------------------------------------------------- overrides


def test_overrides_reach_functions(tmp_path):
    words = ["--stages.3.advantage", "group_centred"]
    words += ["--data.source", "jaxsearch.data.sample:dataset"]
    config = overridden(read_config(QUICKSTART), words, "quickstart.py")
    assert config.stages[3].advantage is group_centred
    assert config.data.source.__module__ == "jaxsearch.data.sample"


def test_help_shows_functions_by_name(capsys):
    with pytest.raises(SystemExit):
        overridden(read_config(QUICKSTART), ["--help"], "quickstart.py")
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "(default: group_relative)" in shown
    assert "jaxsearch.data.quickstart:dataset" in shown
    assert "<function" not in shown and "(fixed to" not in shown


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("group_centered", "group_centred"),
        ("nowhere_at_all:f", "nowhere_at_all"),
        ("jaxsearch.rl.advantages:nothing", "nothing"),
    ],
)
def test_an_unknown_function_is_refused_on_the_command_line(capsys, value, message):
    words = ["--stages.3.advantage", value]
    with pytest.raises(SystemExit) as stopped:
        overridden(read_config(QUICKSTART), words, "quickstart.py")
    assert stopped.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_users_module_that_fails_is_one_line(capsys, tmp_path, monkeypatch):
    (tmp_path / "failing_module.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    words = ["--stages.3.task", "failing_module:TASK"]
    with pytest.raises(SystemExit) as stopped:
        overridden(read_config(QUICKSTART), words, "quickstart.py")
    assert stopped.value.code == 2
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "failing_module:TASK" in said and "ZeroDivisionError" in said


def test_a_value_of_another_kind_is_refused(capsys):
    words = ["--stages.3.task", "jaxsearch.rl.losses:kl_k3"]
    with pytest.raises(SystemExit) as stopped:
        overridden(read_config(QUICKSTART), words, "quickstart.py")
    assert stopped.value.code == 2
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "to be a Task, got function" in said


@pytest.mark.parametrize(
    "option",
    [
        "--environment",
        "--data.source",
        "--stages.0.demonstrations",
        "--stages.3.advantage",
        "--stages.3.aggregation",
        "--stages.3.objective.kl",
    ],
)
def test_a_value_that_is_no_function_is_refused(capsys, option):
    with pytest.raises(SystemExit) as stopped:
        overridden(read_config(QUICKSTART), [option, "math:pi"], "quickstart.py")
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "function" in said


def test_each_field_has_its_own_short_names(capsys):
    words = ["--environment", "search_only", "--stages.3.objective.kl", "kl_k2"]
    config = overridden(read_config(QUICKSTART), words, "quickstart.py")
    assert config.environment is search_only
    assert config.stages[3].objective.kl is kl_k2
    for option, name in (
        ("--environment", "token_mean"),
        ("--stages.3.advantage", "kl_k2"),
        ("--stages.3.objective.kl", "token_log_ratio"),
    ):
        with pytest.raises(SystemExit):
            overridden(config, [option, name], "quickstart.py")
        assert f"unknown name '{name}'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--rollout.max-lenn 3", "--rollout.max-lenn, 3; near it: --rollout.max-len,"),
        ("--steps x", "--steps: .* invalid literal for int.. with base 10: 'x'$"),
        (
            "--model.prompt chatt",
            "invalid choice 'chatt' for argument '--model.prompt'",
        ),
        ("--stages.3.task nope", "--stages.3.task: unknown name 'nope'; expected one"),
        ("--retrieval.retriever nowhere:x", "No module named 'nowhere'"),
        ("--seed", "Missing value for argument '--seed'"),
    ],
)
def test_a_typo_in_an_override_is_one_line(capsys, words, message):
    with pytest.raises(SystemExit) as stopped:
        overridden(read_config(QUICKSTART), words.split(), "train quickstart.py")
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("train quickstart.py: ") and re.search(message, line)


def test_modules_in_the_configs_and_the_current_folder_are_found(tmp_path, monkeypatch):
    """They follow installed modules on the path, and only if one is asked for."""
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    configs, current = tmp_path / "configs", tmp_path / "current"
    for folder, name in ((configs, "next_to_config"), (current, "in_current_folder")):
        folder.mkdir()
        (folder / f"{name}.py").write_text("def same(r, is_kept): return r\n")
        # An installed module of the same name wins.
        (folder / "tyro.py").write_text("1 / 0\n")
    monkeypatch.chdir(current)
    config = read_config(QUICKSTART)
    before = list(sys.path)

    def advantage(name):
        words = ["--stages.3.advantage", name]
        return overridden(config, words, "quickstart.py", configs).stages[3].advantage

    assert advantage("tyro:cli").__module__.startswith("tyro")
    assert advantage("leave_one_out") and sys.path == before
    assert advantage("next_to_config:same").__module__ == "next_to_config"
    assert sys.path == [*before, str(configs)]
    assert advantage("in_current_folder:same").__module__ == "in_current_folder"
    assert sys.path == [*before, str(configs), str(current)]


def test_a_config_file_may_postpone_its_annotations(tmp_path):
    """Its dataclasses are defined, but no run's folder could name them."""
    path = tmp_path / "postponed.py"
    path.write_text(
        "from __future__ import annotations\n"
        "import dataclasses\n"
        "from jaxsearch.run.config_file import read_config\n"
        "@dataclasses.dataclass(frozen=True)\n"
        "class Constant:\n"
        "    value: Nowhere = 1.0\n"
        "    def __call__(self, rewards, is_kept): return self.value + 0 * rewards\n"
        f"base = read_config({QUICKSTART!r})\n"
        "last = dataclasses.replace(base.stages[-1], advantage=Constant())\n"
        "config = dataclasses.replace(base, stages=(*base.stages[:-1], last))\n"
    )
    config = read_config(str(path))
    assert config.stages[-1].advantage.value == 1.0
    assert "postponed" not in sys.modules
    with pytest.raises(ValueError, match="postponed:Constant of a config cannot be"):
        check_restorable(config)
