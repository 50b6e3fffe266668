"""Every script of launch/: syntax, refused arguments, and the output of --dry-run."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launch.machine import ROOT, SHOWS, make_machine

SCRIPTS = sorted([*(ROOT / "launch").glob("*.sh"), ROOT / "launch/slurm.sbatch"])
CONFIG = "configs/quickstart.py"
TPU_VM = ("--name", "n", "--zone", "z", "--type", "v6e-16")
XPK = ("--cluster", "c", "--name", "n", "--type", "v6e-16", "--storage", "s")
# A `jaxsearch` that saves its last step at SIGTERM.
SAVES = r"""
trap 'echo saves; exit 75' TERM
echo trains
for ((i = 0; i < 400; i++)); do sleep 0.05; done
"""


@pytest.fixture
def machine(tmp_path):
    return make_machine(tmp_path, SHOWS)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse(script):
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_scripts_are_clean_for_shellcheck():
    beside = Path(sys.executable).parent / "shellcheck"
    shellcheck = str(beside) if beside.exists() else shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed; the dev extra brings it")
    command = [shellcheck, *map(str, SCRIPTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("local_processes.sh", ("0", CONFIG)),
        ("local_processes.sh", ("two", CONFIG)),
        ("local_processes.sh", ("2",)),
        ("gpus.sh", ()),
        ("gpus.sh", ("--gpus",)),
        ("slurm.sbatch", ()),
        ("tpu_vm.sh", (*TPU_VM, "--nfs", "10.0.0.2:/s")),
        ("tpu_vm.sh", ("--name", "n", CONFIG)),
        ("tpu_vm.sh", (*TPU_VM, "--nfs", "10.0.0.2:/s", "--retries", CONFIG, "--x")),
        ("tpu_vm.sh", (*TPU_VM, "--nfs", "10.0.0.2:/s", "--retries", "-1", CONFIG)),
        ("tpu_worker.sh", ("logs",)),
        ("xpk.sh", (*XPK, CONFIG)),
    ],
)
def test_wrong_arguments_show_the_usage(machine, script, words):
    done = machine.launch(script, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert " CONFIG " in done.stderr and "[arguments of" in done.stderr
    assert "set -euo" not in done.stderr and "SBATCH" not in done.stderr


def test_a_slice_without_a_shared_folder_or_of_no_known_type_is_refused(machine):
    done = machine.launch("tpu_vm.sh", *TPU_VM, CONFIG)
    assert done.returncode == 2 and "--nfs or --setup" in done.stderr
    words = ("--name", "n", "--zone", "z", "--type", "h100", "--nfs", "10.0.0.2:/s")
    done = machine.launch("tpu_vm.sh", *words, CONFIG)
    assert done.returncode == 2 and "got 'h100'" in done.stderr


def test_a_slice_has_the_name_that_plan_gives_it(machine):
    words = ("--name", "n", "--zone", "z", "--type", "v5e-8", "--nfs", "10.0.0.2:/s")
    [create, *_] = machine.dry_run("tpu_vm.sh", *words, CONFIG)
    assert "--accelerator-type=v5litepod-8" in create


@pytest.mark.parametrize(
    ("script", "words", "tool"),
    [
        ("gpus.sh", (CONFIG,), "nvidia-smi"),
        ("tpu_vm.sh", (*TPU_VM, "--nfs", "10.0.0.2:/s", CONFIG), "gcloud"),
        ("xpk.sh", (*XPK, "--out", "/shared/runs/n", CONFIG), "xpk"),
    ],
)
def test_a_missing_tool_is_named(machine, script, words, tool):
    done = machine.launch(script, *words)
    assert done.returncode == 2
    assert tool in done.stderr.splitlines()[-1]


def test_the_quickstart_says_how_to_put_jaxsearch_on_the_path(machine):
    """On standard error, because the last line of standard output is JSON."""
    done = machine.launch("quickstart.sh", "--steps", "5", STATUS="3")
    assert done.returncode == 3
    activate = machine.folder / "venv" / "bin" / "activate"
    assert done.stderr.splitlines() == [
        f"for the command jaxsearch in this shell, later: source {activate}"
    ]
    assert done.stdout.splitlines()[-1] == f"words: train {CONFIG} --json --steps 5"
    active = f"{machine.folder / 'venv' / 'bin'}:{machine.variables['PATH']}"
    assert machine.launch("quickstart.sh", PATH=active).stderr == ""


def test_ctrl_c_while_installing_goes_on_later(machine, interruptible):
    """pip turns the signal into status 1; an environment without pip is completed."""
    (machine.folder / "venv" / ".jaxsearch-").unlink()
    machine.tool("python3.11", '[ "$1" = -c ] || echo "makes: $*"')
    python = machine.folder / "venv" / "bin" / "python"
    python.write_text(
        "#!/usr/bin/env bash\n"
        'if [ "$1" = -c ]; then exit 1; fi\n'  # import pip
        "trap 'exit 1' INT; echo installs; sleep 100 & wait\n"
    )
    process = subprocess.Popen(
        ["bash", str(ROOT / "launch" / "quickstart.sh")],
        cwd=ROOT,
        env=machine.variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    lines = []
    while process.poll() is None and "installs\n" not in lines:
        lines.append(process.stdout.readline())
    assert f"makes: -m venv {machine.folder / 'venv'}\n" in lines
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "interrupted; the same command continues\n"


def test_local_processes(machine):
    words = ("--steps", "5", "--name", "it's a run")
    commands = machine.dry_run("local_processes.sh", "2", CONFIG, *words)
    assert len(commands) == 2
    for i, command in enumerate(commands):
        assert command[0] == "env" and "JAX_PLATFORMS=cpu" in command
        assert "XLA_FLAGS=--xla_force_host_platform_device_count=1" in command
        assert {"JAXSEARCH_NUM_PROCESSES=2", f"JAXSEARCH_PROCESS_ID={i}"} <= {*command}
        assert command[-6:] == ["train", CONFIG, *words]


def test_devices_of_local_processes(machine):
    variables = {"JAXSEARCH_CPU_DEVICES": "4", "XLA_FLAGS": "--xla_dump_to=d"}
    flags = "--xla_dump_to=d --xla_force_host_platform_device_count=4"
    for words in machine.dry_run("local_processes.sh", "2", CONFIG, **variables):
        assert f"XLA_FLAGS={flags}" in words


def test_seconds_that_are_no_number_are_refused(machine):
    """Before a process starts, which nothing would stop when another one dies."""
    words = ("local_processes.sh", "2", CONFIG)
    done = machine.launch(*words, JAXSEARCH_GRACE_S="1m", STATUS="3")
    assert (done.returncode, done.stdout) == (2, "")
    assert "must be a number of seconds, got '1m'" in done.stderr


def test_gpus(machine):
    [command] = machine.dry_run("gpus.sh", "--gpus", "0,2", CONFIG, "--steps", "5")
    assert {"CUDA_VISIBLE_DEVICES=0,2", "JAX_PLATFORMS=cuda,cpu"} <= {*command}
    assert command[-4:] == ["train", CONFIG, "--steps", "5"]
    [command] = machine.dry_run("gpus.sh", CONFIG)
    assert not any("CUDA_VISIBLE_DEVICES" in word for word in command)


def test_sigterm_reaches_the_run_on_gpus(tmp_path):
    machine = make_machine(tmp_path, SAVES)
    machine.tool("nvidia-smi", "")
    with subprocess.Popen(
        ["bash", str(ROOT / "launch" / "gpus.sh"), CONFIG],
        cwd=ROOT,
        env=machine.variables,
        stdout=subprocess.PIPE,
        text=True,
    ) as launcher:
        assert launcher.stdout.readline() == "trains\n"
        launcher.send_signal(signal.SIGTERM)
        said, _ = launcher.communicate(timeout=60)
    assert (launcher.returncode, said) == (75, "saves\n")


def test_slurm(machine):
    *exports, srun = machine.dry_run("slurm.sbatch", CONFIG, "--out", "/nfs/my run")
    assert exports == [
        ["export", "JAXSEARCH_COORDINATOR=FIRST_NODE:20000"],
        ["export", "JAXSEARCH_NUM_PROCESSES=2"],
        ["export", "JAXSEARCH_LOCAL_DEVICES=all"],
    ]
    assert srun[0] == "srun" and "--kill-on-bad-exit=1" in srun
    assert srun[-4:] == ["train", CONFIG, "--out", "/nfs/my run"]


def test_tpu_vm(machine):
    words = ("--spot", "--nfs", "10.0.0.2:/s", "--cache", "gs://b/xla", CONFIG)
    commands = machine.dry_run("tpu_vm.sh", *TPU_VM, *words, "--seed", "7")
    create, describe, scp, mount, install, train, delete = commands
    queued = ["gcloud", "compute", "tpus", "queued-resources"]
    assert create[:6] == [*queued, "create", "n"]
    assert {"--spot", "--zone=z", "--accelerator-type=v6e-16"} <= {*create}
    assert "--runtime-version=v2-alpha-tpuv6e" in create
    assert describe[:5] == [*queued, "describe"]
    assert scp[4] == "scp" and "n:" in scp and scp[5].endswith("/jaxsearch.tar.gz")
    for command in (scp, mount, install, train):
        assert command[:4] == ["gcloud", "compute", "tpus", "tpu-vm"]
        assert "--worker=all" in command
    assert "mount -t nfs 10.0.0.2:/s /mnt/jaxsearch" in mount[8]
    assert install[8].endswith("fetch_python && install tpu")
    assert train[8] == (
        "--command=cd jaxsearch && JAX_COMPILATION_CACHE_DIR=gs://b/xla "
        f"bash ~/jaxsearch/launch/tpu_worker.sh /mnt/jaxsearch/logs/n {CONFIG} "
        "--seed 7 --out /mnt/jaxsearch/runs/n"
    )
    assert delete == [*queued, "delete", "n", "--zone=z", "--force", "--quiet"]


def test_xpk(machine):
    words = ("--out", "/shared/runs/n", "--slices", "2", CONFIG, "--seed", "7")
    [command] = machine.dry_run("xpk.sh", *XPK, *words)
    assert command[:4] == ["xpk", "workload", "create", "--cluster=c"]
    assert {"--tpu-type=v6e-16", "--num-slices=2", "--storage=s"} <= {*command}
    assert "--env=JAX_COMPILATION_CACHE_DIR=/shared/runs/xla" in command
    # "Ended early" is restarted like a killed process, and SIGTERM is not kept back.
    assert "--restart-on-exit-codes=75" in command
    train = f"train {CONFIG} --seed 7 --out /shared/runs/n"
    assert command[-1].endswith(f"&& exec /venv/bin/jaxsearch {train}")
