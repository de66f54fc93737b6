import json
import math
import re

import pytest

from bench import (
    claims,
    cpu,
    gpu,
    images,
    line,
    members,
    own_tables,
    report,
    run,
    streams,
    tables,
    views,
)
from bench.claims import Batches
from bench.problem import Problem
from bench.worker import Missing, Worker
from kd.evidence import machine

TINY_VIT = ["--pixels", "16", "--repeats", "1"]
HERE = cpu.name({**machine(), **cpu.here()})
EARLIER = {"steps": "of an earlier run", "members": "of another command"}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    # Threads of these sizes only wait for each other, and for long where the machine is busy.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A file of results, of a machine without a C++ compiler: to compile takes long."""
    pytest.importorskip("torch", reason="bench/ compares with PyTorch: pip install 'kd[bench]'")
    out = tmp_path_factory.mktemp("bench") / "results.json"
    out.write_text(json.dumps({"gpu": None, "machines": {"another": {"steps": 5}, HERE: EARLIER}}))
    sizes = "--steps 2 --batches 16 --examples 64 --accumulated_batch 16 --records 4 --floats 4000"
    vits = "--vit Ti/16 --vit_batch 2 --small_vit Ti/16 --small_vit_batch 4 --peak_sizes 64"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXX", "no-such-compiler")
        assert run.main([*sizes.split(), *vits.split(), *TINY_VIT, "--out", str(out)]) == 0
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def results(recorded):
    return recorded["machines"][HERE]


@pytest.fixture(scope="module")
def on_gpu(tmp_path_factory):
    """What the GPU's part answers, tried out on the CPU."""
    pytest.importorskip("torch", reason="bench/ compares with PyTorch: pip install 'kd[bench]'")
    out = tmp_path_factory.mktemp("bench") / "results.json"
    sizes = "--platform cpu --student Ti/16 --teacher Ti/16 --batch 2 --steps 1 --matmul 256"
    assert gpu.main([*sizes.split(), *TINY_VIT, "--out", str(out)]) == 0
    return json.loads(out.read_text())["gpu"]


def of_compiler(name):
    return "compiled" in name


def test_a_tiny_run_measures_every_case(results):
    groups = claims.groups(Batches((16,), 16, 2, 4, 4), "Ti/16", "Ti/16")
    cases = {str(case) for group in [*groups, claims.parts(2)] for case in claims.cases(group)}
    assert {case for case in cases if not of_compiler(case)} == set(results["ms_per_step"])
    assert [(row["name"], row["peer"]) for row in results["comparisons"]] == [
        (claim.name, claim.peer)
        for group in groups
        for claim in group
        if not of_compiler(claim.peer)
    ]
    rows = results["comparisons"] + results["vit_parts"]
    numbers = [row[key] for row in rows for key in ("kd_ms", "peer_ms")]
    numbers += [value for row in rows for value in row["ratio"]["all"]]
    numbers += results["peak"]["gflops"].values()
    assert all(math.isfinite(number) and number > 0 for number in numbers)
    assert set(results["versions"]) == set(run.VERSIONS)


def test_without_a_compiler_a_line_says_what_is_left_out(results):
    assert set(results["left_out"]) == {
        "torch student compiled, batch 16",
        "torch population compiled, batch 16",
        "torch vit compiled, batch 2",
    }
    lines = [line for line in tables.one_machine(HERE, results).splitlines() if "Left out:" in line]
    assert len(lines) == 1
    assert "torch vit compiled, batch 2: torch.compile needs a C++ compiler" in lines[0]


def test_a_run_replaces_what_it_measures_and_nothing_else(recorded, results):
    assert results["steps"] == 2
    assert results["members"] == "of another command"
    assert recorded["machines"]["another"] == {"steps": 5}
    assert "gpu" in recorded


@pytest.mark.parametrize(
    ("what", "moved"),
    [
        ("16", "update"),
        ("16, population", "update"),
        ("vit, 2", "gradient"),
    ],
)
def test_both_sides_compute_the_same(results, what, moved):
    assert 0 <= results["relative_difference"][what]["loss"] < run.TOLERANCE
    assert 0 <= results["relative_difference"][what][moved] < run.TOLERANCE


def test_a_training_run_compiles_once(results):
    assert results["compiles_per_run"] == 1


def test_the_table_says_what_was_met(results):
    text = tables.claims({HERE: results})
    claimed = [row for row in results["comparisons"] if row["reach"]]
    assert text.count("| yes |") + text.count("| no |") == len(claimed) + 1
    assert text.count("| measured |") == len(results["comparisons"]) - len(claimed)


def test_the_page_names_the_claims_that_are_missed_and_the_part_that_loses(recorded, results):
    rows = [
        {**row, "ratio": {**row["ratio"], "median": math.inf if "at_least" in row["reach"] else 0}}
        for row in results["comparisons"]
    ]
    first = {**rows[0], "ratio": {**rows[0]["ratio"], "median": 0.5}}
    slow = [
        {**row, "kd_ms": row["peer_ms"] + 9 * (row["name"] == "mlp")}
        for row in results["vit_parts"]
    ]
    here = {**results, "comparisons": [first, *rows[1:]], "vit_parts": slow}
    here.pop("members")
    text = report.scaling({**recorded, "machines": {HERE: here}})
    missed = f"{first['name']} ({first['peer']})."
    assert f"Not met on every machine that is recorded: {missed}" in text
    assert "loses most is mlp, by 9 ms" in text
    assert "No GPU" in text


def test_the_gpu_part_measures_both_sides_against_the_matmul(on_gpu):
    assert set(on_gpu["sides"]) == {"kd", "torch"}
    assert on_gpu["losses_differ"] < gpu.LOSSES_AGREE
    rate = on_gpu["matmul"]["tflops"]["median"] * 1e12
    for side in on_gpu["sides"].values():
        done = on_gpu["flops_per_step"] / side["ms_per_step"]["median"] * 1e3
        assert side["part_of_ceiling"]["median"] == pytest.approx(done / rate, rel=0.1, abs=2e-3)
    assert "compiled" in tables.gpu(on_gpu)


def test_without_a_gpu_there_is_one_line_and_no_result(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gpu, "printed", lambda *_: None)
    assert gpu.main(["--out", str(tmp_path / "results.json")]) == 0
    assert capsys.readouterr().err == "no GPU that JAX can use: nothing measured\n"
    assert not list(tmp_path.iterdir())


def test_populations_are_measured_by_every_way(tmp_path):
    out = tmp_path / "results.json"
    sizes = "--members 1 2 --steps 2 --examples 32 --batch 4 --repeats 1"
    assert members.main([*sizes.split(), "--out", str(out)]) == 0
    results = json.loads(out.read_text())["machines"][HERE]["members"]
    assert [row["members"] for row in results["rows"]] == [1, 2]
    for row in results["rows"]:
        assert list(row["ms"]) == ["vmap", "loop", "groups of 8"]
        assert all(times["median"] > 0 for times in row["ms"].values())
        assert row["met"] == (row["ratio"]["median"] <= members.REACH)
    text = own_tables.members(results, HERE)
    assert "| 2 | " in text
    assert "python -m bench.members --members 1 2" in text


def test_the_command_measures_the_sizes_of_the_line_and_those_of_the_knee():
    sizes = members._parser().parse_args([]).members
    assert {1, 8, 64, 65, 256, 1024} <= set(sizes)
    assert {2, 4, 16, 32, 50} <= set(sizes)
    assert sizes == sorted(sizes)


def costing(vmap, loop, auto):
    """Recorded rows, by the milliseconds of a member of each size."""
    return [
        {
            "members": size,
            "auto": auto[size],
            "steps": 1,
            "ms": {
                way: {"median": ms[size], "q1": ms[size], "q3": ms[size]}
                for way, ms in (("vmap", vmap), ("loop", loop))
            },
            "ratio": {"median": 1, "q1": 1, "q3": 1},
            "met": True,
        }
        for size in vmap
    ]


def test_a_line_is_judged_over_sizes_by_what_auto_takes():
    vmap, loop = {1: 1.0, 8: 1.05, 64: 2.0, 65: 3.0}, {1: 9.0, 8: 9.0, 64: 1.09, 65: 1.2}
    rows = costing(vmap, loop, {1: "vmap", 8: "vmap", 64: "loop", 65: "loop"})
    assert [ratio["median"] for ratio in line.line(rows)] == pytest.approx([1, 1.05, 1.09, 1.2])
    record = {"rows": rows, "student": "", "batch": 1, "repeats": 1, "command": "again"}
    record |= {"machine": {"load_before": 0, "load_after": 0}, "versions": {"jax": ""}}
    lines = {text.split(" | ")[0]: text for text in own_tables.members(record, HERE).splitlines()}
    assert [lines[f"| {size}"].endswith("| yes |") for size in vmap] == [True, True, True, False]
    assert line.line(rows[:1]) == [None]


@pytest.mark.parametrize("unit", [1.0, 7.0])
def test_the_knee_is_the_largest_size_whose_member_costs_little_more_than_the_best(unit):
    costs = {1: 1.2, 2: 1.0, 8: 1.09, 16: 1.11, 50: 1.46}
    vmap = {size: unit * cost for size, cost in costs.items()}
    rows = costing(vmap, vmap, dict.fromkeys(vmap, "vmap"))
    assert line.knee(rows) == (
        "By vmap a member of 2 costs least; 8 is the largest population whose members cost at most "
        "1.1 times as much, and of 16 1.11 times."
    )
    assert line.knee(rows[:3]).endswith("at most 1.1 times as much.")


def test_kept_answers_to_views_are_measured_beside_a_live_teacher(tmp_path):
    out = tmp_path / "results.json"
    sizes = "--views 2 --examples 32 --batch 4 --steps 2 --repeats 1"
    assert views.main([*sizes.split(), "--out", str(out)]) == 0
    results = json.loads(out.read_text())["machines"][HERE]["views"]
    assert results["once"]["bytes"] == 32 * 2 * 10 * 4
    assert all(times["median"] > 0 for times in results["ms"].values())
    text = own_tables.views(results, HERE)
    assert "2 views of each example" in text
    assert "python -m bench.views --views 2" in text


def test_folders_and_eq_5_are_measured(tmp_path):
    out = tmp_path / "results.json"
    sizes = "--files 8 --pixels 16 --examples 3 --repeats 1"
    assert images.main([*sizes.split(), "--out", str(out)]) == 0
    results = json.loads(out.read_text())["machines"][HERE]["images"]
    assert results["reading"][0]["ratio"]["median"] > 0
    assert all(row["gradient"] < 2e-6 for row in results["equation"]["rows"])
    text = report.OTHERS["images"](results, HERE)
    assert "| 16 | " in text
    assert "python -m bench.images --files 8" in text


def test_streams_are_measured_beside_memory_and_processes_beside_threads(tmp_path, monkeypatch):
    monkeypatch.setenv("KD_CACHE_DIR", str(tmp_path / "own"))
    out = tmp_path / "results.json"
    sizes = "--examples 20 --batch 4 --pngs 8 --jpegs 8 --pixels 16 --repeats 1"
    assert streams.main([*sizes.split(), "--out", str(out)]) == 0
    results = json.loads(out.read_text())["machines"][HERE]["streams"]
    memory, kept, decoded = results["epochs"]
    assert [ratio["median"] for ratio in memory["ratio"]] == [1, 1]
    assert kept["met"] == all(ratio["median"] <= streams.AT_MOST for ratio in kept["ratio"])
    assert memory["met"] is decoded["met"] is None
    assert all(ms["median"] > 0 for row in results["epochs"] for ms in row["ms"])
    assert [(row["form"], row["pixels"]) for row in results["decoding"]] == [
        ("PNG", 28),
        ("JPEG", 16),
    ]
    assert not (tmp_path / "own").exists(), "the bench keeps what it decodes in a folder of its own"
    text = report.OTHERS["streams"](results, HERE)
    assert "| streamed, decoded once | " in text
    assert "python -m bench.streams --examples 20" in text


def test_compiled_the_student_learns_the_same():
    pytest.importorskip("torch", reason="bench/ compares with PyTorch: pip install 'kd[bench]'")
    with Worker("bench.with_torch", Problem(64, 1)) as torch:
        workers = {"kd": torch, "torch": torch}
        try:
            errors = run.check(workers, 16, "check", "check compiled")
        except Missing as lacking:
            pytest.skip(str(lacking))
    assert 0 <= max(errors.values()) < run.TOLERANCE


def test_the_sizes_that_nobody_set_are_those_of_the_specification():
    sizes, batches = Problem(1, 1), Batches()
    assert (sizes.vit, sizes.teacher, sizes.pixels, batches.vit) == ("S/16", "B/16", 224, 8)


def test_the_page_shows_how_right_plans_were():
    results = json.loads(report.ACCURACY.read_text("utf-8"))
    block = re.search(
        r"<!-- plan accuracy -->\n(.*)\n<!-- /plan accuracy -->",
        report.SCALING.read_text(),
        re.DOTALL,
    )
    assert block is not None
    assert block[1] == report.accuracy(results)


def test_the_page_shows_the_committed_results():
    if not run.RESULTS.exists():
        pytest.skip("no committed results yet")
    results = json.loads(run.RESULTS.read_text("utf-8"))
    block = re.search(
        r"<!-- bench -->\n(.*)\n<!-- /bench -->", report.SCALING.read_text("utf-8"), re.DOTALL
    )
    assert block is not None
    assert block[1] == report.scaling(results)


def test_the_readme_shows_the_committed_results():
    results = json.loads(run.RESULTS.read_text("utf-8"))
    block = re.search(
        r"<!-- speed -->\n(.*)\n<!-- /speed -->", report.README.read_text("utf-8"), re.DOTALL
    )
    assert block is not None
    assert block[1] == report.speed(results)
