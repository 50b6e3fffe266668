"""Real processes on one machine: the same gradient, the same run, and how runs end."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxsearch.monitor.rollout_log import read_rollouts, rollout_files
from jaxsearch.monitor.writers import read_metrics

ROOT = Path(__file__).parents[1]
TIMES = ("time/", "tokens_per_s/")

# A config file, which each process reads like those of users.
CONFIG = """
import dataclasses
from pathlib import Path

from jaxsearch.rl.advantages import group_centred
from tests.tiny import tiny_config

config = tiny_config(Path("unnamed"))
imitate, reinforce = config.stages
# Include everything that is computed over a step's rollouts, or per token.
reinforce = dataclasses.replace(
    reinforce,
    questions_per_step=4,
    advantage=group_centred,
    whiten_advantages=True,
    reward_kl_weight=0.01,
    max_importance=2.0,
    minibatches_per_step=2,
    objective=dataclasses.replace(reinforce.objective, kl_weight=0.0),
)
config = dataclasses.replace(config, stages=(imitate, reinforce))
"""


def started(arguments, *, number, count, port, num_devices):
    """Starts one of `count` processes, with its output in a pipe."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("JAXSEARCH_")}
    environ |= {
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} "
        f"--xla_force_host_platform_device_count={num_devices}",
    }
    if count > 1:
        environ |= {
            "JAXSEARCH_COORDINATOR": f"127.0.0.1:{port}",
            "JAXSEARCH_NUM_PROCESSES": str(count),
            "JAXSEARCH_PROCESS_ID": str(number),
        }
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=environ,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_all(*arguments, count, num_devices=8):
    """Starts `count` processes with `num_devices` in total."""
    port = free_port()
    return [
        started(
            [*map(str, arguments)],
            number=number,
            count=count,
            port=port,
            num_devices=num_devices // count,
        )
        for number in range(count)
    ]


def ended(processes):
    """Waits for all processes; returns the status and output of each."""
    outputs = [process.communicate(timeout=540)[0] for process in processes]
    return [process.returncode for process in processes], outputs


def succeeded(*arguments, count, num_devices=8):
    statuses, outputs = ended(
        start_all(*arguments, count=count, num_devices=num_devices)
    )
    assert not any(statuses), outputs
    return outputs


# ---------------------------------------------------------------- the gradient


@pytest.fixture(scope="module")
def on_one_device(tmp_path_factory):
    path = tmp_path_factory.mktemp("gradient") / "one.npz"
    worker = ROOT / "tests" / "process_gradient.py"
    succeeded(worker, 1, 1, 1, path, count=1, num_devices=1)
    return np.load(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "mesh"),
    [
        # One process with eight devices: tests/rl/test_update.py.
        pytest.param(1, (2, 2, 2), marks=pytest.mark.long),
        (2, (2, 2, 2)),
        pytest.param(4, (1, 4, 2), marks=pytest.mark.long),
    ],
)
def test_the_gradient_does_not_depend_on_processes(
    on_one_device, tmp_path, count, mesh
):
    path = tmp_path / "gradient.npz"
    worker = ROOT / "tests" / "process_gradient.py"
    succeeded(worker, *mesh, path, count=count)
    found = np.load(path)
    assert set(found) == set(on_one_device)
    for name, want in on_one_device.items():
        norm = np.linalg.norm(want)
        assert norm > 0, name
        assert np.linalg.norm(found[name] - want) / norm <= 1e-5, name


# ---------------------------------------------------------------- a run


def untimed(folder):
    return [
        {k: v for k, v in line.items() if not k.startswith(TIMES)}
        for line in read_metrics(folder / "metrics.jsonl")
    ]


def assert_alike(found, wanted):
    """Compares metrics of the same steps, up to rounding of sums in another order."""
    assert [line["step"] for line in found] == [line["step"] for line in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert one.keys() == other.keys()
        for key, value in other.items():
            if key.startswith("logprob_drift/"):
                assert one[key] < 1e-4  # only rounding
            elif isinstance(value, str):
                assert one[key] == value
            else:
                np.testing.assert_allclose(one[key], value, rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "tiny.py"
    path.write_text(CONFIG)
    return path


def command(config_file, folder, *overrides):
    return (
        "-m",
        "jaxsearch",
        "train",
        config_file,
        "--out",
        folder,
        *overrides,
    )


@pytest.fixture(scope="module")
def runs(config_file, tmp_path_factory):
    """The same run in one process and in two, with four devices in total."""
    folders = [tmp_path_factory.mktemp("runs") / name for name in ("one", "two")]
    for count, folder in zip((1, 2), folders, strict=True):
        succeeded(*command(config_file, folder), count=count, num_devices=4)
    return folders


@pytest.mark.slow
def test_a_run_does_not_depend_on_processes(runs):
    one, two = runs
    assert_alike(untimed(two), untimed(one))
    # Parameters are equal up to rounding, so everything sampled is equal.
    files = [rollout_files(run) for run in runs]
    assert files[0].keys() == files[1].keys()
    for step, path in files[0].items():
        wanted, found = read_rollouts(path), read_rollouts(files[1][step])
        assert [(r.prompt_index, r.sample_index, r.segments) for r in found] == [
            (r.prompt_index, r.sample_index, r.segments) for r in wanted
        ]
    evaluations = [read_metrics(run / "eval.jsonl") for run in (one, two)]
    for ours, theirs in zip(*evaluations, strict=True):
        assert ours["name"] == theirs["name"] and ours["em"] == theirs["em"]
    best, found = ([path.name for path in (run / "best").iterdir()] for run in runs)
    assert best == found != []


# ---------------------------------------------------------------- the API


@pytest.mark.slow
def test_the_api_refuses_a_policy_on_the_devices_of_one_process(tmp_path):
    worker = ROOT / "tests" / "process_trainer.py"
    started_all = start_all(worker, tmp_path / "x.npz", "alone", count=2, num_devices=2)
    statuses, outputs = ended(started_all)
    assert statuses == [2, 2]
    for output in outputs:
        [line] = [line for line in output.splitlines() if line.startswith("refused")]
        assert line.endswith(
            "a policy needs a mesh with devices of each, but this one has none of "
            "process 1; give mesh=jaxsearch.MeshShape() for all devices"
        )


@pytest.mark.long
def test_the_api_gives_the_same_in_two_processes(tmp_path):
    """Trainer, evaluate, rollout, score, logprobs; each process has all results."""
    worker = ROOT / "tests" / "process_trainer.py"
    for count, name in ((1, "one.npz"), (2, "two.npz")):
        succeeded(worker, tmp_path / name, count=count, num_devices=2)
    one, two = (np.load(tmp_path / name) for name in ("one.npz", "two.npz"))
    assert set(one) == set(two)
    for name, wanted in one.items():
        if name in ("tokens", "rewards", "em"):
            np.testing.assert_array_equal(two[name], wanted)
        else:
            np.testing.assert_allclose(two[name], wanted, rtol=1e-3, atol=1e-5)


# ---------------------------------------------------------------- how runs end


@pytest.mark.long
def test_one_process_goes_on_where_two_have_stopped(runs, config_file, tmp_path):
    one, _ = runs
    folder = tmp_path / "resumed"
    arguments = command(config_file, folder, "--steps", 2)
    succeeded(*arguments, count=2, num_devices=4)
    succeeded(*command(config_file, folder), count=1, num_devices=4)
    assert_alike(untimed(folder), untimed(one))


@pytest.mark.long
def test_a_lost_process_ends_the_run_and_the_run_resumes(runs, config_file, tmp_path):
    one, _ = runs
    folder = tmp_path / "lost"
    processes = start_all(*command(config_file, folder), count=2, num_devices=4)
    while not list(folder.glob("checkpoints/[0-9]*")):
        assert all(process.poll() is None for process in processes)
        time.sleep(0.1)
    processes[1].send_signal(signal.SIGKILL)
    lost_at = time.perf_counter()
    statuses, outputs = ended(processes)
    assert time.perf_counter() - lost_at < 60
    assert statuses[0] not in (0, None), outputs
    succeeded(*command(config_file, folder), count=2, num_devices=4)
    assert_alike(untimed(folder), untimed(one))


@pytest.mark.long
def test_an_alarm_ends_a_run_in_all_processes(config_file, tmp_path):
    """The alarm uses steps before the interruption, which only process 0 has read."""
    guards = ("--guards.max-drift", "1e-12", "--guards.stop-on-alarm", "True")
    arguments = command(config_file, tmp_path / "run", *guards)
    succeeded(*arguments, "--steps", 2, count=2, num_devices=4)
    statuses, outputs = ended(start_all(*arguments, count=2, num_devices=4))
    assert 0 not in statuses
    assert all("alarm drift began at step 6" in output for output in outputs), outputs
    assert ["alarm drift, step 6: " in output for output in outputs] == [True, False]


@pytest.mark.slow
def test_what_processes_disagree_on_is_named_before_anything_is_written(
    config_file, tmp_path
):
    port, folder = free_port(), tmp_path / "run"
    processes = [
        started(
            [*map(str, command(config_file, folder, "--seed", number))],
            number=number,
            count=2,
            port=port,
            num_devices=1,
        )
        for number in (0, 1)
    ]
    statuses, outputs = ended(processes)
    assert statuses == [2, 2]
    assert "the processes disagree on the config: seed is 1 there and 0" in outputs[0]
    assert not folder.exists()


@pytest.mark.slow
def test_questions_that_cannot_be_shared_out_are_refused(config_file, tmp_path):
    arguments = command(
        config_file, tmp_path / "run", "--stages.1.questions-per-step", 3
    )
    statuses, outputs = ended(start_all(*arguments, count=2, num_devices=2))
    assert statuses == [2, 2]
    assert "is 3, which is not divisible by the 2 processes" in outputs[0]
