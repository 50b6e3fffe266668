"""The launch scripts of clusters, with stubs instead of the clusters' tools."""

import signal
import subprocess

import pytest

from tests.launch.machine import SHOWS, make_machine

CONFIG = "configs/quickstart.py"
# Variables left by another launcher, or by a deleted slice.
STALE = {
    "JAXSEARCH_COORDINATOR": "gone:1",
    "JAXSEARCH_PROCESS_ID": "3",
    "MEGASCALE_NUM_SLICES": "3",
    "TPU_WORKER_HOSTNAMES": "gone",
}
# Keeps the state of one request and records its calls. The words of ENDS are the ends
# of the runs, in order: "preempted", or an exit status.
GCLOUD = r"""
echo "$*" >>"$HOME/calls"
case "$*" in
  *"queued-resources describe"*) cat "$HOME/state" ;;
  *"queued-resources create"*) echo ACTIVE >"$HOME/state" ;;
  *"queued-resources delete"*) rm "$HOME/state" ;;
  *"tpu-vm describe"*) echo READY ;;
  *tpu_worker.sh*)
    run="$(grep -c tpu_worker.sh "$HOME/calls")"
    set -- $ENDS
    if [ "${!run}" = preempted ]; then
      echo SUSPENDED >"$HOME/state"
      exit 134
    fi
    exit "${!run}"
    ;;
esac
"""
SRUN = r"""
while [ "$1" != bash ]; do shift; done
status=0
for task in 0 1; do SLURM_PROCID=$task "$@" || status=$?; done
exit "$status"
"""
SCONTROL = r"""
case "$1" in
  show) printf 'node%s\n' 7 8 ;;
  requeue) echo "requeued $2" ;;
esac
"""
SLURM = {
    "SLURM_JOB_ID": "12345",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_JOB_NODELIST": "node[7-8]",
    "SLURM_CPUS_PER_TASK": "32",
}


@pytest.fixture
def machine(tmp_path):
    machine = make_machine(tmp_path, SHOWS)
    machine.tool("sleep", "")
    return machine


def run_on_slices(machine, ends: str, *words: str):
    """Runs tpu_vm.sh; returns its calls of gcloud: create, delete, train, in order."""
    machine.tool("gcloud", GCLOUD)
    done = machine.launch(
        *("tpu_vm.sh", "--name", "n", "--zone", "z", "--type", "v6e-16", "--spot"),
        *("--nfs", "10.0.0.2:/s", *words, CONFIG),
        ENDS=ends,
    )
    kinds = {"tpu_worker.sh": "train", " create ": "create", " delete ": "delete"}
    calls = (machine.folder / "calls").read_text().splitlines()
    asked = [
        kind for call in calls for part, kind in kinds.items() if part in f"{call} "
    ]
    return done, asked


def test_a_preempted_slice_is_replaced_and_the_run_goes_on(machine):
    done, asked = run_on_slices(machine, "preempted preempted 0")
    assert done.returncode == 0, done.stderr
    assert asked == [*("create", "train", "delete") * 2, "create", "train"]
    assert "the slice is gone" in done.stderr


def test_failures_on_a_healthy_slice_are_counted(machine):
    done, asked = run_on_slices(machine, "1 1 1 1", "--retries", "1")
    assert done.returncode == 1
    assert asked == ["create", "train", "train"]


@pytest.mark.slow
def test_a_new_slice_has_all_its_tries(machine):
    done, asked = run_on_slices(machine, "1 preempted 1 0", "--retries", "1")
    assert done.returncode == 0, done.stderr
    assert asked == ["create", "train", "train", "delete", "create", "train", "train"]


def test_bad_input_is_not_tried_again(machine):
    done, asked = run_on_slices(machine, "2 0")
    assert (done.returncode, asked) == (2, ["create", "train"])


def test_a_request_that_gcloud_refuses_ends(machine):
    machine.tool("gcloud", "exit 1")
    done = machine.launch(
        *("tpu_vm.sh", "--name", "n", "--zone", "z", "--type", "v6e-16"),
        *("--nfs", "10.0.0.2:/s", CONFIG),
    )
    assert done.returncode == 1
    assert "refused 4 times to create n" in done.stderr


# The only worker is a folder of this machine, in which the commands run.
GCLOUD_HERE = r"""
echo "$*" >>"$HOME/calls"
case "$*" in
  *"queued-resources describe"*) echo ACTIVE ;;
  *"tpu-vm describe"*) echo READY ;;
  *"tpu-vm scp"*)
    for word in "$@"; do
      case "$word" in
        */jaxsearch.env) stat -c %a "$word" >"$HOME/mode" ;;
      esac
      case "$word" in
        */jaxsearch.env | *.tar.gz) cat "$word" >"$HOME/worker/${word##*/}" ;;
      esac
    done
    ;;
  *--command=mkdir* | *--command=chmod* | *tpu_worker.sh*)
    for word in "$@"; do
      case "$word" in --command=*) command="${word#--command=}" ;; esac
    done
    cd "$HOME/worker" && HOME="$PWD" bash -c "${command//\/mnt\/jaxsearch/$PWD/shared}"
    ;;
esac
"""


def test_the_slice_gets_the_users_files_and_tokens(machine):
    """Uncommitted files of three folders; tokens in a file, and nowhere else."""
    machine.tool("gcloud", GCLOUD_HERE)
    machine.tool("python3.11", "")
    machine.tool("hostname", "echo t1v-n-1234-w-0")
    (machine.folder / "worker").mkdir()
    mine, library = machine.folder / "my work", machine.folder / "library"
    for folder, names in {
        mine: ("my_run.py", "data/questions.jsonl", "runs/old.npz", "secret.txt"),
        library: ("my_library.py", ".hidden", "runs/old"),
    }.items():
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(name)
    (mine / ".gitignore").write_text("runs/\nsecret.txt\n")
    for words in (("init", "-q"), ("add", "my_run.py")):
        subprocess.run(["git", *words], cwd=mine, check=True)
    secrets = {"HF_TOKEN": "hf_it's secret", "WANDB_API_KEY": "0123"}
    path = f"{machine.variables['PYTHONPATH']}:{library}"
    done = machine.launch(
        *("tpu_vm.sh", "--name", "n", "--zone", "z", "--type", "v6e-16"),
        *("--nfs", "10.0.0.2:/s", "my_run.py", "--seed", "7"),
        cwd=mine,
        **secrets | {"PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    worker = machine.folder / "worker"

    def sent(folder):
        files = (worker / folder).rglob("*")
        return {str(f.relative_to(worker / folder)) for f in files if f.is_file()}

    assert sent("jaxsearch_my_work") == {
        *(".gitignore", "my_run.py", "data/questions.jsonl"),
    }
    assert sent("jaxsearch_library") == {"my_library.py"}
    assert "launch/tpu_worker.sh" in sent("jaxsearch")
    log = (worker / "shared/logs/n/t1v-n-1234-w-0.log").read_text()
    assert f"words: train my_run.py --seed 7 --out {worker}/shared/runs/n" in log
    assert f"PYTHONPATH={worker}/jaxsearch_library\n" in log
    assert "HF_TOKEN has 14 letters" in log and "WANDB_API_KEY has 4" in log
    assert (machine.folder / "mode").read_text() == "600\n"
    assert not (worker / "jaxsearch.env").exists()
    calls = (machine.folder / "calls").read_text()
    for text in (calls, log, done.stdout, done.stderr):
        assert "it's secret" not in text and "0123" not in text
    assert list(machine.folder.glob("jaxsearch.*")) == []


@pytest.mark.parametrize("worker", [0, 1])
def test_a_tpu_worker_forgets_the_slice_before_and_says_how_it_ended(machine, worker):
    machine.tool("hostname", f"echo t1v-n-1234-w-{worker}")
    logs = machine.folder / "logs"
    done = machine.launch(
        *("tpu_worker.sh", str(logs), CONFIG, "--seed", "7"), STATUS="3", **STALE
    )
    log = (logs / f"t1v-n-1234-w-{worker}.log").read_text()
    assert done.returncode == 3
    assert f"words: train {CONFIG} --seed 7" in log
    assert "JAXSEARCH_DISTRIBUTED=auto" in log and "JAX_PLATFORMS=tpu,cpu" in log
    assert not any(name in log for name in STALE)
    assert done.stdout == (log if worker == 0 else "")
    assert f"w-{worker} ended with status 3; its last lines:" in done.stderr
    assert "  words: train" in done.stderr


def test_a_tpu_worker_ends_what_holds_the_tpu(machine):
    machine.tool("hostname", "echo t1v-n-1234-w-1")
    held = ["bash", "-c", "exec -a jaxsearch sleep 300"]
    with subprocess.Popen(held) as holder:
        (machine.folder / ".jaxsearch.pid").write_text(f"{holder.pid}\n")
        done = machine.launch("tpu_worker.sh", str(machine.folder / "logs"), CONFIG)
        ended = holder.poll()
        holder.kill()
    assert done.returncode == 0, done.stderr
    assert ended == -signal.SIGKILL
    assert (machine.folder / ".jaxsearch.pid").read_text() != f"{holder.pid}\n"


def run_on_slurm(machine, status: int, **variables: str):
    machine.tool("srun", SRUN)
    machine.tool("scontrol", SCONTROL)
    variables = SLURM | STALE | {"STATUS": str(status)} | variables
    return machine.launch("slurm.sbatch", CONFIG, "--out", "/nfs/my run", **variables)


def test_slurm_gives_every_task_its_place_and_all_local_devices(machine):
    done = run_on_slurm(machine, 0)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for expected in (
        "JAXSEARCH_COORDINATOR=node7:22345",
        "JAXSEARCH_NUM_PROCESSES=2",
        "JAXSEARCH_LOCAL_DEVICES=all",
        "JAX_PLATFORMS=cuda,cpu",
        f"words: train {CONFIG} --out /nfs/my run",
    ):
        assert lines.count(expected) == 2, expected
    numbers = [line for line in lines if line.startswith("JAXSEARCH_PROCESS_ID")]
    assert numbers == ["JAXSEARCH_PROCESS_ID=0", "JAXSEARCH_PROCESS_ID=1"]


@pytest.mark.parametrize(
    ("status", "restarts", "is_requeued"),
    [
        *((0, 0, False), (1, 0, True), (137, 2, True), (1, 3, False), (2, 0, False)),
        # It asks to be started again.
        *((75, 0, True), (75, 3, True)),
    ],
)
def test_slurm_queues_again_what_failed(machine, status, restarts, is_requeued):
    done = run_on_slurm(machine, status, SLURM_RESTART_COUNT=str(restarts))
    assert done.returncode == status
    assert ("requeued 12345" in done.stdout) == is_requeued


def test_gpus_are_driven_by_one_process(machine):
    machine.tool("nvidia-smi", "echo GPU 0")
    done = machine.launch("gpus.sh", "--gpus", "0,1", CONFIG, **STALE)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert {"CUDA_VISIBLE_DEVICES=0,1", "JAX_PLATFORMS=cuda,cpu"} <= {*lines}
    assert not any(line.startswith("JAXSEARCH_PROCESS") for line in lines)
    assert lines[-1] == f"words: train {CONFIG}"
