"""What lies around a command: its streams, its environment, and things that are no files."""

import os
import subprocess
import sys

import pytest

import kd
import runs
from kd.cli.main import main
from kd.errors import KdError
from kd.processes.preemption import Metadata
from kd.storage import lease, store
from kd.system import kept
from kd.system.paths import local

COMMAND = [sys.executable, "-m", "kd.cli"]


def cli(*words, **options):
    """A command in a process of its own."""
    env = {**runs.environment(1), **options.pop("env", {})}
    command = [*COMMAND, *words]
    return subprocess.run(command, cwd=runs.ROOT, env=env, check=False, timeout=120, **options)


def test_a_run_whose_listener_has_gone_trains_to_its_end(tmp_path):
    """As in ``kd train 2>&1 | head -1``; what was cut short must not look like a success."""
    reader, writer = os.pipe()
    os.close(reader)
    words = runs.kd("train", f"--workdir={tmp_path / 'run'}", checkpoint_epochs=1)
    assert cli(*words, stdout=writer, stderr=writer).returncode == 0
    os.close(writer)
    runs.same_bytes(runs.finished(), tmp_path / "run")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_no_file_takes_the_place_of_a_stream_that_is_closed(closed, tmp_path):
    program = """
import os, sys
from kd.cli.streams import steady
steady()
file = open("file", "w")
print("lost", file=sys.stderr, flush=True)
print("lost", flush=True)
os.write(2, b"a library complains")
sys.exit(0 if file.fileno() > 2 else 1)
"""
    shell = f'"{sys.executable}" -c "$PROGRAM" {closed}'
    env = {**os.environ, "PROGRAM": program, "PYTHONPATH": str(runs.ROOT)}
    done = subprocess.run(
        ["bash", "-c", shell], cwd=tmp_path, env=env, check=False, capture_output=True
    )
    assert done.returncode == 0
    assert (tmp_path / "file").read_text() == ""


@pytest.mark.parametrize(
    "variable", [{"JAX_ENABLE_X64": "maybe"}, {"JAX_NUM_CPU_DEVICES": "several"}]
)
def test_a_variable_that_jax_cannot_read_is_one_line(variable, tmp_path):
    words = runs.kd("train", f"--workdir={tmp_path / 'run'}")
    done = cli(*words, env=variable, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("kd: JAX cannot start: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("text", ["soon", "nan", "-1", "0", "inf"])
def test_times_of_the_environment_are_times(text, monkeypatch):
    for variable, read in (
        ("KD_LEASE_SECONDS", lease.seconds),
        ("KD_BUCKET_SECONDS", store.patience),
    ):
        monkeypatch.setenv(variable, text)
        with pytest.raises(KdError, match=f"{variable} must be a number of seconds above 0"):
            read()


def test_what_is_kept_lies_where_the_environment_says_or_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KD_CACHE_DIR", "~/kept")
    assert kept.folder("data") == tmp_path / "kept" / "data"
    monkeypatch.setenv("KD_CACHE_DIR", "gs://bucket/kept")
    with pytest.raises(KdError, match="KD_CACHE_DIR: gs://bucket/kept is an address"):
        kept.folder("data")
    monkeypatch.delenv("KD_CACHE_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # a user without a home
    assert kept.folder("data") is None


def test_a_metadata_server_of_no_name_is_one_that_does_not_answer():
    with pytest.raises(OSError, match="is no host"):
        Metadata("host:port").wait(1)


FILES = ["run.json", "metrics.jsonl", "timing.jsonl", "evaluation.json", "splits.jsonl", ".lock"]


@pytest.mark.parametrize("name", FILES)
def test_a_pipe_in_the_place_of_a_runs_file_is_not_waited_for(name, tmp_path, capfd):
    (tmp_path / "run").mkdir()
    os.mkfifo(tmp_path / "run" / name)
    assert runs.train(tmp_path / "run") == 2
    assert main(["eval", f"--workdir={tmp_path / 'run'}"]) == 2
    said = capfd.readouterr().err.splitlines()
    assert f"{name} is no ordinary file" in said[-2]
    assert len([line for line in said if line.startswith("kd: ")]) == 2


def test_pipes_and_devices_are_not_read(tmp_path, capfd):
    for name in ("a.npz", "a.csv", "results.json", "config.json"):
        os.mkfifo(tmp_path / name)
    for path in (f"npz:{tmp_path}/a.npz", f"csv:{tmp_path}/a.csv", "csv:/dev/zero"):
        with pytest.raises(KdError, match="is no ordinary file"):
            kd.load(path, "train")
    with pytest.raises(KdError, match=r"config\.json is no ordinary file"):
        kd.load(f"hf:{tmp_path}")
    assert main(["report", str(tmp_path)]) == 2
    assert "results.json is no ordinary file" in capfd.readouterr().err


def test_a_path_that_is_no_text_is_refused_before_a_library_chokes_on_it():
    with pytest.raises(KdError, match="is no path here"):
        local(os.fsdecode(b"\xff\xfe"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--dry_run", "--show-sharding"], "give one of them"),
        (["--dry_run", "--sinks=nonsense"], "unknown sink 'nonsense'"),
        (["--show-sharding", "--sinks=nonsense"], "unknown sink 'nonsense'"),
        (["--dry_run", "--profile=100:110"], "outside the run, which is 6 steps long"),
    ],
)
def test_nothing_that_is_asked_for_goes_unheard_where_nothing_trains(words, said, capfd):
    assert main(runs.kd("train", *words)) == 2
    assert said in capfd.readouterr().err


def test_the_doctor_wants_a_folder(tmp_path, capfd):
    (tmp_path / "file").write_text("")
    assert main(["doctor", f"--workdir={tmp_path / 'file'}"]) == 2
    assert "file is no folder" in capfd.readouterr().out
