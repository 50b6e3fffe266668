"""Configs by name from anywhere, shown and compared."""

import json
import shlex
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from jaxsearch.commands.main import main
from jaxsearch.run.config_fields import config_fields, config_of, field_text
from jaxsearch.run.config_file import read_config
from jaxsearch.run.config_names import config_names
from jaxsearch.run.folder import write_record
from jaxsearch.run.overrides import overridden
from tests.commands.test_main import CONFIGS, QUICKSTART, refused
from tests.tiny import tiny_config

ROOT = CONFIGS.parent


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A folder without configs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["quickstart", "research_qwen2_5_7b"])
def test_a_config_is_found_by_its_name_from_anywhere(name):
    by_name, by_path = read_config(name), read_config(str(CONFIGS / f"{name}.py"))
    assert config_fields(by_name) == config_fields(by_path)
    assert by_name.out == f"runs/{name}"


def test_every_config_has_a_name(capsys):
    assert main(["config", "list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == config_names()
    assert set(found) == {path.stem for path in CONFIGS.glob("*.py")}
    assert all(line.endswith(".") for line in found.values())
    assert main(["config", "list"]) == 0
    assert "  quickstart  " in capsys.readouterr().out


def test_a_file_of_that_very_name_comes_first(elsewhere):
    (elsewhere / "quickstart").write_text(
        Path(QUICKSTART).read_text() + "\nimport dataclasses\n"
        "config = dataclasses.replace(config, seed=7)\n"
    )
    assert read_config("quickstart").seed == 7


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "quickstrat"), "near it: quickstart, "),
        (("train", "mine"), "config 'mine' is unknown; known: hotpotqa_real, quick"),
        (("plan", "mine"), "a file of your own is given with its ending"),
        (("train", "configs/quickstart.py"), "config under its name: quickstart"),
        (("train", "runs"), "runs is a folder; expected a config"),
        (("config", "show", "nothing"), "config 'nothing' is unknown"),
        (("config", "diff", "quickstart", "nothing"), "config 'nothing' is unknown"),
    ],
)
def test_an_unknown_config_is_answered_with_the_known_ones(
    capsys, elsewhere, words, message
):
    (elsewhere / "runs").mkdir()
    assert message in refused(capsys, *words)


@pytest.mark.parametrize(
    ("words", "corrected"),
    [
        ("train --steps 2 quickstart", "train quickstart --steps 2"),
        ("train --steps=2 quickstart", "train quickstart --steps=2"),
        ("train --out 'a b' --seed 1 my.py", "train my.py --out 'a b' --seed 1"),
        ("plan --seed 1 quickstart --steps 2", "plan quickstart --seed 1 --steps 2"),
        ("prompt --model.path x quickstart", "prompt quickstart --model.path x"),
        (
            "select --model x --seed 1 quickstart --tries 2",
            "select quickstart --model x --seed 1 --tries 2",
        ),
        ("config show --seed 1 quickstart", "config show quickstart --seed 1"),
        ("train --steps 2 --seed 1", "train CONFIG --steps 2 --seed 1"),
    ],
)
def test_options_before_the_config_are_answered_with_the_command(
    capsys, words, corrected
):
    line = refused(capsys, *shlex.split(words))
    assert line.endswith(f"stand after the config: jaxsearch {corrected}")


def test_a_value_before_the_config_may_be_that_of_an_override_too(capsys, elsewhere):
    words = "select --tries 8 quickstart --model ./gone --rollout.num-slots 8 --out out"
    assert "gone does not exist" in refused(capsys, *words.split())


def test_an_unknown_option_of_another_command_is_named(capsys):
    line = refused(capsys, "report", "runs/x", "--outt", "y")
    assert line == (
        "jaxsearch report: unknown: --outt y; `jaxsearch report --help` shows what can "
        "be given"
    )


def test_an_unknown_option_of_an_action_names_the_action_s_help(capsys):
    line = refused(capsys, "index", "search", "--index", "x", "y")
    assert line.endswith("`jaxsearch index search --help` shows what can be given")


@pytest.mark.parametrize("name", ["quickstart", "quickstart_from_scratch"])
def test_what_is_shown_can_be_given_as_overrides(capsys, name):
    assert main(["config", "show", name, "--rollout.max-len", "200"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "--rollout.max-len 200" in lines
    words = [w for line in lines if line[0] != "#" for w in shlex.split(line)]
    again = overridden(read_config(name), words, "test")
    assert [field_text(*item) for item in config_fields(again).items()] == lines


def test_what_is_shown_in_json_has_all_fields(capsys):
    assert main(["config", "show", "quickstart", "--seed", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["seed"] == 3 and found["stages.0.group_size"] == 8
    assert found["stages.0.advantage"] == "jaxsearch.rl.advantages:group_relative"


def test_differences_of_configs_and_runs(capsys, elsewhere):
    assert main(["config", "diff", "quickstart", "quickstart_unmasked"]) == 0
    shown = capsys.readouterr().out
    assert shown == "stages.0.has_masked_observations: True -> False\n"
    write_record(tiny_config(elsewhere / "run"), frozen="")
    write_record(tiny_config(elsewhere / "other", seed=4), frozen="")
    assert main(["config", "diff", "run", "other"]) == 0
    assert capsys.readouterr().out == "seed: 0 -> 4\n"
    assert main(["config", "diff", "run", "run"]) == 0
    assert capsys.readouterr().out == "no field differs\n"
    assert main(["config", "diff", "quickstart", "run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    # The run has another stage first.
    assert found["stages.0.kind"] == ["RLStage", "SupervisedStage"]
    assert found["stages.1.kind"] == [None, "RLStage"]
    assert config_of("run").seed == 0 and config_of("quickstart").seed == 0


@pytest.mark.slow
def test_the_configs_are_in_the_wheel(tmp_path):
    # Not imported here: it replaces distutils, which another test may have loaded.
    [*found] = metadata.distributions(name="setuptools")
    versions = [int(one.version.partition(".")[0]) for one in found]
    if max(versions, default=0) < 77:
        pytest.skip(f"building needs setuptools 77 or newer, found {versions}")
    source, site = tmp_path / "source", tmp_path / "site"
    for name in ("jaxsearch", "configs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = "from setuptools import build_meta; build_meta.build_wheel('dist')"
    subprocess.run(
        [sys.executable, "-c", build], cwd=source, check=True, capture_output=True
    )
    [wheel] = (source / "dist").glob("*.whl")
    assert wheel.stat().st_size < 5e6
    with zipfile.ZipFile(wheel) as packed:
        tops = {name.partition("/")[0] for name in packed.namelist()}
        packed.extractall(site)
    assert {top.partition("-")[0] for top in tops} == {"jaxsearch"}
    assert {path.stem for path in (site / "jaxsearch/configs").glob("*.py")} == {
        path.stem for path in CONFIGS.glob("*.py")
    }
    shown = subprocess.run(
        [sys.executable, "-m", "jaxsearch", "config", "show", "quickstart_unmasked"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(site), "JAX_PLATFORMS": "cpu", "PATH": ""},
        check=True,
        capture_output=True,
        text=True,
    )
    assert "--stages.0.has-masked-observations False" in shown.stdout
