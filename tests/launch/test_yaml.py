"""The YAML files of launch/: their schemas, and the commands that they run."""

import re
import string
import subprocess

import pytest

from tests.launch.machine import ROOT, SHOWS, make_machine

yaml = pytest.importorskip("yaml", reason="pyyaml comes with the dev extra")

JOBSET = (ROOT / "launch/gke_jobset.yaml").read_text()
VARIABLES = {
    "NAME": "research",
    "IMAGE": "registry.example/jaxsearch:1",
    "HOSTS": "4",
    "CHIPS": "4",
    "TOPOLOGY": "4x4",
    "ACCELERATOR": "tpu-v6e-slice",
    "CLAIM": "shared",
    "CACHE": "gs://bucket/xla",
    "RESTARTS": "20",
    "CONFIG": "configs/quickstart.py",
    "ARGUMENTS": "--steps 5",
}
# The fields of a SkyPilot task that are used here, with their types.
SKYPILOT = {
    "name": str,
    "num_nodes": int,
    "workdir": str,
    "resources": dict,
    "envs": dict,
    "file_mounts": dict,
    "setup": str,
    "run": str,
}


@pytest.fixture(scope="module")
def jobset():
    """The input of `kubectl`."""
    head, body = JOBSET.split("apiVersion:", 1)
    assert all(line.startswith("#") for line in head.splitlines())
    return yaml.safe_load("apiVersion:" + string.Template(body).substitute(VARIABLES))


@pytest.fixture(scope="module")
def task():
    return yaml.safe_load((ROOT / "launch/skypilot.yaml").read_text())


def test_the_head_of_the_jobset_names_every_variable():
    head, body = JOBSET.split("apiVersion:", 1)
    assert {*re.findall(r"\$\{(\w+)\}", body)} == VARIABLES.keys()
    assert VARIABLES.keys() == {*re.findall(r"\b([A-Z]+)=", head)}


def test_the_jobset_restarts_as_one_and_not_for_bad_input(jobset):
    assert (jobset["apiVersion"], jobset["kind"]) == (
        "jobset.x-k8s.io/v1alpha2",
        "JobSet",
    )
    assert jobset["metadata"]["name"] == "research"
    assert jobset["spec"].keys() == {"network", "failurePolicy", "replicatedJobs"}
    assert jobset["spec"]["network"]["enableDNSHostnames"] is True
    policy = jobset["spec"]["failurePolicy"]
    assert policy["maxRestarts"] == 20
    assert policy["rules"][0]["action"] == "FailJobSet"
    assert policy["rules"][0]["onJobFailureReasons"] == ["PodFailurePolicy"]
    [slice_] = jobset["spec"]["replicatedJobs"]
    assert slice_.keys() == {"name", "replicas", "template"}
    job = slice_["template"]["spec"]
    assert job["parallelism"] == job["completions"] == 4
    assert (job["completionMode"], job["backoffLimit"]) == ("Indexed", 0)
    [rule] = job["podFailurePolicy"]["rules"]
    assert (rule["action"], rule["onExitCodes"]["values"]) == ("FailJob", [2])
    [container] = job["template"]["spec"]["containers"]
    assert rule["onExitCodes"]["containerName"] == container["name"]


def test_pods_of_the_jobset_ask_for_their_tpus(jobset):
    pod = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v6e-slice",
        "cloud.google.com/gke-tpu-topology": "4x4",
    }
    [container] = pod["containers"]
    assert container["resources"]["limits"] == {"google.com/tpu": 4}
    assert container["resources"]["requests"] == {"google.com/tpu": 4}
    variables = {one["name"]: one["value"] for one in container["env"]}
    assert variables["JAXSEARCH_DISTRIBUTED"] == "auto"
    assert variables["JAX_COMPILATION_CACHE_DIR"] == "gs://bucket/xla"
    mounted = {one["name"] for one in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    assert container["args"] == [
        "exec jaxsearch train configs/quickstart.py --steps 5 "
        "--out /shared/runs/research"
    ]


def test_jobs_of_the_jobset_fit_the_schema_of_kubernetes(jobset):
    kubernetes = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate comes with the dev extra"
    )
    for one in jobset["spec"]["replicatedJobs"]:
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "slice"}}
        kubernetes.validate(job | one["template"], "1.34", strict=True)


def test_the_task_of_skypilot_has_the_fields_that_it_knows(task):
    assert {name: type(value) for name, value in task.items()} == SKYPILOT
    assert task["resources"].keys() == {
        *("accelerators", "use_spot", "disk_size", "job_recovery")
    }
    assert task["resources"]["job_recovery"] == {
        "max_restarts_on_errors": 3,
        "recover_on_exit_codes": [75],
    }
    assert all(isinstance(value, str) for value in task["envs"].values())
    [mount] = task["file_mounts"].values()
    assert mount == {"source": "${BUCKET}", "mode": "MOUNT"}
    for script in (task["setup"], task["run"]):
        subprocess.run(["bash", "-n", "-c", script], check=True)


def run_task(machine, task: dict, **variables: str) -> list[str]:
    nodes = {
        "SKYPILOT_NODE_IPS": "10.0.0.7\n10.0.0.8",
        "SKYPILOT_NUM_NODES": "2",
        "SKYPILOT_NODE_RANK": "1",
        "JAXSEARCH_PROCESS_ID": "9",
    }
    done = subprocess.run(
        ["bash", "-c", task["run"]],
        cwd=ROOT,
        env=machine.variables | task["envs"] | nodes | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_the_task_of_skypilot_gives_every_node_its_place(task, tmp_path):
    machine = make_machine(tmp_path, SHOWS)
    lines = run_task(machine, task, ARGUMENTS="--steps 5")
    assert {
        "JAXSEARCH_COORDINATOR=10.0.0.7:8476",
        "JAXSEARCH_NUM_PROCESSES=2",
        "JAXSEARCH_PROCESS_ID=1",
        "JAXSEARCH_LOCAL_DEVICES=all",
        "JAX_PLATFORMS=cuda,cpu",
        "words: train configs/quickstart.py --steps 5 --out /shared/runs/jaxsearch",
    } <= {*lines}


def test_the_task_of_skypilot_leaves_a_tpu_slice_to_jax(task, tmp_path):
    lines = run_task(make_machine(tmp_path, SHOWS), task, EXTRAS="tpu")
    assert {"JAXSEARCH_DISTRIBUTED=auto", "JAX_PLATFORMS=tpu,cpu"} <= {*lines}
    assert not any(line.startswith("JAXSEARCH_PROCESS_ID") for line in lines)
