"""Laws of a profile: it changes no byte of a run, and its parts add up to the whole."""

import dataclasses
import functools
import itertools

import hypothesis.strategies as st
import pytest
from hypothesis import given

import faulty
import runs
import tiny
from kd.pages import profile as page
from kd.placement.mesh import MeshSpec, make_mesh
from kd.training import loop, writers
from kd.training.profile import Parts, Window, newest
from kd.training.trace import KINDS, OTHER, Traced, innermost, kind_of, read, shares
from kd.training.watching import Watching

SPANS = st.lists(
    st.tuples(st.integers(0, 60), st.integers(1, 30), st.sampled_from("abc")).map(
        lambda span: (span[0], span[0] + span[1], span[2])
    ),
    max_size=9,
)


def covered(spans):
    """Length of the union."""
    return len({moment for begin, end, _ in spans for moment in range(begin, end)})


@given(SPANS)
def test_what_is_innermost_covers_the_same_time_once(spans):
    flat = innermost(spans)
    assert sum(end - begin for begin, end, _ in flat) == covered(spans)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(flat))


@given(st.lists(SPANS, max_size=3))
def test_shares_of_what_runs_side_by_side_add_up_to_the_busy_time(lines):
    flat = [innermost(line) for line in lines]
    sums = shares(flat)
    assert sum(sums.values()) == pytest.approx(covered([span for line in lines for span in line]))
    assert shares([*flat, *flat]) == pytest.approx(sums)  # twice the threads, the same shares


def test_a_loop_has_the_time_that_its_body_has_not():
    spans = [(0, 10, "while"), (1, 4, "dot"), (4, 6, "add"), (12, 13, "dot")]
    assert shares([innermost(spans)]) == {"while": 5, "dot": 4, "add": 2}


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("dot.12", "products and convolutions"),
        ("all-reduce-start.3", "collectives"),
        ("reduce.3", "reductions and sorting"),
        ("reduce-scatter.1", "collectives"),
        ("loop_add_fusion", "element-wise and other fusions"),
        ("dynamic-update-slice.4", "moving data"),
        ("while.2", "loops and calls"),
        ("quaint", OTHER),
    ],
)
def test_kinds_of_operations(operation, kind):
    assert kind_of(operation) == kind
    assert kind in {*KINDS, OTHER}


@given(st.integers(0, 30), st.integers(1, 9), st.integers(0, 40), st.integers(1, 12))
def test_the_parts_of_a_dispatch_are_the_dispatch(first, length, step, more):
    window = Window(first, first + length)
    ends = window.parts(step, step + more)
    steps = [range(a, b) for a, b in zip([step, *ends], ends, strict=False)]
    assert [i for part in steps for i in part] == list(range(step, step + more))
    inside = [{window.first <= i < window.end for i in part} for part in steps]
    assert all(len(sides) == 1 for sides in inside)


def test_a_profile_changes_no_byte(tmp_path, capfd):
    """Its edges lie within dispatches, which hold two steps each."""
    workdir = tmp_path / "run"
    assert runs.train(workdir, "--profile=1:5", checkpoint_epochs=1) == 0
    shown = capfd.readouterr()
    runs.same_bytes(workdir, runs.finished())
    file = newest(workdir / "profile")
    assert f"the trace of steps 1:5 is {file}" in shown.err
    traced = read(file)
    assert traced.kinds["products and convolutions"][0] > 0
    busy = sum(seconds for seconds, _ in traced.kinds.values())
    assert busy + traced.gaps == pytest.approx(traced.seconds)
    assert page.table(traced, Window(1, 5)).title in shown.out


def test_stopped_within_the_window_and_continued(tmp_path, monkeypatch, capfd):
    """The window is what is left of it; a start beyond it says so and goes on."""
    monkeypatch.setattr(writers, "jsonl", writers.jsonl)  # restores it afterwards
    faulty.at_line(2, "SIGTERM")
    workdir, options = tmp_path / "run", ("--profile=1:5",)
    assert runs.train(workdir, *options, checkpoint_epochs=1) == 128 + 15
    assert "the trace of steps 1:3 is" in capfd.readouterr().err
    monkeypatch.undo()
    assert runs.train(workdir, *options, checkpoint_epochs=1) == 0
    assert "the trace of steps 3:5 is" in capfd.readouterr().err
    runs.same_bytes(workdir, runs.finished())
    assert runs.train(workdir, *options, checkpoint_epochs=1) == 0
    assert "no profile: this start took no step of 1:5" in capfd.readouterr().err


def test_a_trace_that_cannot_be_written_stops_nothing(tmp_path, capfd):
    workdir = tmp_path / "run"
    workdir.mkdir()
    (workdir / "profile").write_text("a file is in its place")
    assert runs.train(workdir, "--profile=1:5", checkpoint_epochs=1) == 0
    assert capfd.readouterr().err.count("no profile of 1:5: ") == 1
    runs.same_bytes(workdir, runs.finished())


@pytest.mark.parametrize("text", ["5", "a:b", "3:3", "4:2", "-1:3", "0:7", "7:9", "1:2:3", ""])
def test_a_window_that_is_none_or_outside_the_run(text, tmp_path, capfd):
    assert runs.train(tmp_path / "run", f"--profile={text}") == 2
    [line] = capfd.readouterr().err.splitlines()
    assert line.startswith("kd: --profile")
    assert text in line
    assert not (tmp_path / "run").exists()


def test_the_table_adds_up():
    kinds = {"moving data": (0.002, 4.0), "products and convolutions": (0.005, 8.0)}
    table = page.table(Traced(0.01, 2, kinds, 0.003, {"wait": 0.001, "save": 0.002}), Window(4, 8))
    cells = {name: (float(each), share, times) for name, each, share, times in table.rows}
    assert cells["products and convolutions"] == (1.25, "50.0%", "2.0")
    assert cells["collectives"] == (0, "0.0%", "0.0")
    parts = [each for name, (each, *_) in cells.items() if "process" not in name and name != "all"]
    assert sum(parts) == cells["all"][0] == 2.5
    assert cells["the process waits for input"][0] == 0.25


def note(lines, step, values):
    lines.append((step, {name: value.tolist() for name, value in values.items()}))


def test_nothing_is_done_before_and_after_the_window(monkeypatch):
    """The same dispatches as without it but for those that its edges cut, of a population too."""
    taken, lines, ends = {}, {}, []
    members = tiny.members_of(seed=(3, 5))
    real = loop.compile_program

    def noting(*arguments):
        program = real(*arguments)

        def advance(state, step, until):
            taken[name].append((step, until))
            return program.advance(state, step, until)

        return dataclasses.replace(program, advance=advance)

    monkeypatch.setattr(loop, "compile_program", noting)
    for name, parts in (("plain", Parts()), ("profiled", Parts(Window(5, 9)))):
        taken[name], lines[name] = [], []
        task = tiny.task(steps=14, members=members, mesh=make_mesh(MeshSpec(devices=1)))
        options = {"cadence": loop.Cadence(3), "watching": Watching(parts=parts)}
        write = functools.partial(note, lines[name])
        ends.append(loop.run(task, start_writing=lambda _, write=write: [write], **options))
    assert not tiny.differ(ends[0].params, ends[1].params)
    assert lines["plain"] == lines["profiled"] != []
    assert taken["plain"] == [(0, 3), (3, 6), (6, 9), (9, 12), (12, 14)]
    assert taken["profiled"] == [(0, 3), (3, 5), (5, 6), *taken["plain"][2:]]
