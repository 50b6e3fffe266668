"""`jaxsearch doctor`: what it finds here, and how each problem is mended."""

import json
from pathlib import Path

import pytest

from jaxsearch.commands.main import main
from jaxsearch.doctor import machine, packages, policy
from jaxsearch.doctor.check import Check
from jaxsearch.doctor.devices import device_checks, unused_accelerators
from jaxsearch.doctor.machine import cache_check, machine_checks, scann_check


def by_name(checks) -> dict[str, Check]:
    return {check.name: check for check in checks}


@pytest.mark.slow
def test_the_sampler_equals_the_trainer_here(monkeypatch):
    assert 0.0 < policy.largest_difference() < 1e-5
    for bound in (0.0, float("nan")):
        monkeypatch.setattr(policy, "_MAX_DIFFERENCE", bound)
        found = policy.policy_check()
        assert found.status == "problem" and "nats" in found.found and found.mend


def test_every_device_runs_a_program():
    found = list(device_checks({"JAX_PLATFORMS": "cpu"}))
    assert [check.name for check in found if check.status == "ok"] == [
        f"cpu {i}" for i in range(8)
    ]


def test_scann_is_opened():
    assert scann_check().status == "ok"


@pytest.mark.slow
def test_tokens_are_present_or_not_and_never_shown(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_TOKEN", "hf_abcdef")
    monkeypatch.setenv("WANDB_API_KEY", "0123456789")
    assert main(["doctor", "--json"]) == 0
    shown = capsys.readouterr().out
    assert "abcdef" not in shown and "0123456789" not in shown
    found = {check["name"]: check for check in json.loads(shown)["checks"]}
    # The whole list, on eight devices.
    assert {"python", "memory", "disk", "cache", "ScaNN", "sampler"} <= found.keys()
    assert {f"cpu {i}" for i in range(8)} <= found.keys()
    for name in ("HF_TOKEN", "WANDB_API_KEY"):
        assert (found[name]["status"], found[name]["found"]) == ("ok", "present")
    monkeypatch.setenv("WANDB_API_KEY", "")
    check = by_name(packages.token_checks())["WANDB_API_KEY"]
    assert (check.status, check.mend) == ("note", "wandb login")
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password x\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert by_name(packages.token_checks())["WANDB_API_KEY"].status == "ok"


@pytest.mark.slow
def test_a_problem_is_shown_with_what_mends_it(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(packages, "NEEDED", ("jax", "no-such-package"))
    assert main(["doctor"]) == 1
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    found = lines.index("problem  packages       not installed: no-such-package")
    assert lines[found + 1] == "         -> pip install no-such-package"
    assert shown.err == "jaxsearch doctor: to be mended: packages\n"
    assert max(map(len, lines)) <= 60
    assert main(["doctor", "--json"]) == 1
    assert not json.loads(capsys.readouterr().out)["is_healthy"]


@pytest.mark.parametrize("name", ["_MIN_MEMORY_GB", "_MIN_DISK_GB"])
def test_too_little_memory_or_disk_is_a_problem(monkeypatch, tmp_path, name):
    assert {check.status for check in machine_checks(tmp_path)} == {"ok"}
    monkeypatch.setattr(machine, name, 1e6)
    [problem] = [c for c in machine_checks(tmp_path) if c.status == "problem"]
    assert "GB" in problem.found and problem.name.upper() in name


def test_a_cache_that_cannot_be_written_is_a_problem(tmp_path):
    assert cache_check(str(tmp_path / "new")).status == "ok"
    (tmp_path / "file").write_text("")
    found = cache_check(str(tmp_path / "file"))
    assert found.status == "problem"
    assert found.mend == "export JAX_COMPILATION_CACHE_DIR=FOLDER"
    assert cache_check("gs://bucket/folder").status == "ok"


@pytest.mark.parametrize(
    ("device", "variables", "found"),
    [
        ("nvidia0", {}, [("GPU", "pip install 'jaxsearch[cuda]'")]),
        ("accel0", {}, [("TPU", "pip install 'jaxsearch[tpu]'")]),
        ("vfio/0", {}, [("TPU", "pip install 'jaxsearch[tpu]'")]),
        ("nvidia0", {"JAX_PLATFORMS": "cpu"}, [("GPU", "unset JAX_PLATFORMS")]),
        ("null", {}, []),
    ],
)
def test_an_accelerator_that_is_not_used_is_a_problem(
    tmp_path: Path, device, variables, found
):
    (tmp_path / device).parent.mkdir(exist_ok=True)
    (tmp_path / device).touch()
    checks = list(unused_accelerators(tmp_path, variables))
    assert [(check.name, check.mend) for check in checks] == found
    assert {check.status for check in checks} <= {"problem"}


@pytest.mark.parametrize(("status", "mend"), [("ok", "x"), ("problem", "")])
def test_what_is_not_ok_has_something_that_mends_it(status, mend):
    with pytest.raises(ValueError, match="only what is not ok is to be mended"):
        Check(name="a", status=status, found="b", mend=mend)
