"""Sinks: each has what metrics.jsonl has, and one that fails stops nothing."""

import functools
import json
import sys
import threading
import types

import numpy as np
import pytest

import runs
from kd.training import sinks as kd_sinks
from kd.training.sinks.apart import Apart, close, flat

NEVER = threading.Event()


@pytest.fixture
def offline(monkeypatch):
    """No library of these asks the network, and each has the time that it takes: MLflow makes its
    database in ten seconds, or more where others compute.
    """
    monkeypatch.setattr(kd_sinks, "close", functools.partial(close, seconds=300.0))
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


def wanted(workdir):
    """Every number of metrics.jsonl, by step and name."""
    return {
        (line["step"], name): value
        for line in runs.lines(workdir)
        for name, value in flat({k: v for k, v in line.items() if k != "step"}).items()
    }


def without_times(numbers):
    assert any(name.startswith("timing/") for _, name in numbers)
    return {key: value for key, value in numbers.items() if not key[1].startswith("timing/")}


def train(workdir, sink):
    return runs.train(workdir, f"--sinks={sink}", eval_epochs=1, population={"seed": (0, 1)})


def events(folder):
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        while content:  # TFRecord: length, its checksum, the event, its checksum
            length = int.from_bytes(content[:8], "little")
            yield Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboardX", reason="the extra tensorboard is not installed")
    assert train(tmp_path / "run", "tensorboard") == 0
    written = {
        (event.step, value.tag): value.simple_value
        for event in events(tmp_path / "run" / "tensorboard")
        for value in event.summary.value
    }
    assert without_times(written) == pytest.approx(wanted(tmp_path / "run"))


def test_tensorboard_forgets_what_is_taken_again(tmp_path):
    pytest.importorskip("tensorboardX", reason="the extra tensorboard is not installed")
    for step in (0, 4):
        sink = kd_sinks.SINKS["tensorboard"].open(kd_sinks.About(tmp_path, {}, step))
        sink.write(step + 1, {"loss": 1.0})
        sink.close()
    restarts = [e.step for e in events(tmp_path / "tensorboard") if e.HasField("session_log")]
    assert restarts == [5]


def test_prometheus(tmp_path):
    client = pytest.importorskip("prometheus_client.parser", reason="the extra is not installed")
    assert train(tmp_path / "run", "prometheus") == 0
    text = (tmp_path / "run" / "prometheus" / "kd.prom").read_text()
    samples = [s for family in client.text_string_to_metric_families(text) for s in family.samples]
    assert {sample.labels["run"] for sample in samples} == {"run"}
    newest = {name: value for (_, name), value in wanted(tmp_path / "run").items()}
    written = {(0, s.labels["name"]): s.value for s in samples if s.name == "kd_metric"}
    assert {name: value for (_, name), value in without_times(written).items()} == newest
    assert [sample.value for sample in samples if sample.name == "kd_step"] == [6]


def logged(content, block=32768):
    """The records of a log in LevelDB's format, which W&B writes offline, after its header of 7."""
    at, whole = 7, b""
    while at + 7 <= len(content):
        if block - at % block < 7:  # the rest of a block is too short for a record
            at += block - at % block
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        whole += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part of one
            yield whole
            whole = b""


@pytest.mark.filterwarnings("ignore")  # of a library that is not ours
def test_wandb(tmp_path, offline):
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    from wandb.proto import wandb_internal_pb2

    assert train(tmp_path / "run", "wandb") == 0
    (path,) = (tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb")
    written = {}
    for data in logged(path.read_bytes()):
        items = wandb_internal_pb2.Record.FromString(data).history.item
        row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
        if row:
            names = {name for name in row if not name.startswith("_")} - {"step"}
            written |= {(row["step"], name): row[name] for name in names}
    assert without_times(written) == pytest.approx(wanted(tmp_path / "run"))


@pytest.mark.filterwarnings("ignore")  # of a library that is not ours
def test_mlflow(tmp_path, offline):
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    assert train(tmp_path / "run", "mlflow") == 0
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'run' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("kd")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "run"
    assert run.info.status == "FINISHED"
    assert run.data.params["data.batch_size"] == "40"
    written = {
        (point.step, name): point.value
        for name in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, name)
    }
    assert without_times(written) == pytest.approx(wanted(tmp_path / "run"))


def sinks_of_a_user(monkeypatch):
    """A module with sinks that fail in every place."""

    class Sink:
        def write(self, step, values):
            pass

        def close(self):
            pass

    class Writes(Sink):
        def write(self, *_):
            raise SystemExit("cannot write")

    class Closes(Sink):
        def close(self):
            raise ValueError("cannot close")

    def opens(about):
        raise OSError("cannot open")

    module = types.ModuleType("my_sinks")
    vars(module).update(opens=opens, writes=lambda _: Writes(), closes=lambda _: Closes())
    monkeypatch.setitem(sys.modules, "my_sinks", module)


@pytest.mark.parametrize("place", ["opens", "writes", "closes"])
def test_a_sink_that_fails_is_said_once_and_stops_nothing(place, tmp_path, monkeypatch, capfd):
    sinks_of_a_user(monkeypatch)
    name = f"my_sinks:{place}"
    assert runs.train(tmp_path / "run", f"--sinks={name}", checkpoint_epochs=1) == 0
    said = [line for line in capfd.readouterr().err.splitlines() if "sink" in line]
    cause = f"cannot {place.removesuffix('s')}"
    assert said == [f"train: the sink {name} failed ({cause}); the run goes on without it"]
    runs.same_bytes(tmp_path / "run", runs.finished())


def test_a_sink_that_hangs_is_left_behind(tmp_path):
    said = []
    sink = Apart("slow", lambda _: NEVER.wait(), kd_sinks.About(tmp_path, {}), said.append)
    sink.write(1, {"loss": np.float32(1)})
    close([sink], 0.01)
    assert said == ["the sink slow does not end and is left behind"]


@pytest.mark.parametrize("name", ["tensorbord", "nowhere_at_all:sink"])
def test_an_unknown_sink(name, tmp_path, capfd):
    assert runs.train(tmp_path / "run", f"--sinks={name}") == 2
    [line] = capfd.readouterr().err.splitlines()
    assert name.partition(":")[0] in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", sorted(kd_sinks.SINKS))
def test_an_extra_that_is_not_installed(name, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    assert runs.train(tmp_path / "run", f"--sinks={name}") == 2
    [line] = capfd.readouterr().err.splitlines()
    assert f"the sink {name} needs" in line
    assert "pip install" in line
    assert not (tmp_path / "run").exists()
