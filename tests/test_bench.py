import json
import math
import re

import numpy as np
import pytest

from bench import claims, gpu, members, report, run, vit_problem
from bench.claims import Batches, Case, Claim
from bench.problem import Problem

TINY_VIT = ["--pixels", "16", "--repeats", "1"]


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    # Threads of these sizes only wait for each other, and for long where the machine is busy.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    pytest.importorskip("torch", reason="bench/ compares with PyTorch: pip install 'kd[bench]'")
    out = tmp_path_factory.mktemp("bench") / "results.json"
    out.write_text('{"gpu": null, "steps": "of an earlier run"}')
    sizes = "--steps 2 --batches 16 --examples 64 --accumulated_batch 16 --records 4 --floats 4000"
    vits = "--vit Ti/16 --vit_batch 2 --small_vit Ti/16 --small_vit_batch 4"
    assert run.main([*sizes.split(), *vits.split(), *TINY_VIT, "--out", str(out)]) == 0
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def on_gpu(tmp_path_factory):
    """What the GPU's part answers, tried out on the CPU."""
    pytest.importorskip("torch", reason="bench/ compares with PyTorch: pip install 'kd[bench]'")
    out = tmp_path_factory.mktemp("bench") / "results.json"
    sizes = "--platform cpu --student Ti/16 --teacher Ti/16 --batch 2 --steps 1 --matmul 64"
    assert gpu.main([*sizes.split(), *TINY_VIT, "--out", str(out)]) == 0
    return json.loads(out.read_text())["gpu"]


def test_a_tiny_run_measures_every_case(results):
    groups = claims.groups(Batches((16,), 16, 2, 4, 4), "Ti/16", "Ti/16")
    cases = {str(case) for group in [*groups, claims.parts(2)] for case in claims.cases(group)}
    assert cases == set(results["ms_per_step"])
    assert [row["name"] for row in results["comparisons"]] == [
        claim.name for group in groups for claim in group
    ]
    rows = results["comparisons"] + results["vit_parts"]
    numbers = [row[key] for row in rows for key in ("kd_ms", "peer_ms")]
    numbers += [value for row in rows for value in row["ratio"]["all"]]
    assert all(math.isfinite(number) and number > 0 for number in numbers)
    assert results["machine"]["cpu"]
    assert set(results["versions"]) == set(run.VERSIONS)


def test_a_run_replaces_what_it_measures_and_nothing_else(results):
    assert results["steps"] == 2
    assert "gpu" in results


@pytest.mark.parametrize(("what", "moved"), [("16", "update"), ("vit, 2", "gradient")])
def test_both_sides_compute_the_same(results, what, moved):
    assert 0 <= results["relative_difference"][what]["loss"] < run.TOLERANCE
    assert 0 <= results["relative_difference"][what][moved] < run.TOLERANCE


def test_a_training_run_compiles_once(results):
    assert results["compiles_per_run"] == 1


def test_the_table_says_what_was_met(results):
    text = report.table(results)
    assert text.count("| yes |") + text.count("| no |") == len(results["comparisons"]) + 1
    missed = {
        **results,
        "comparisons": [{**row, "met": not row["met"]} for row in results["comparisons"]],
    }
    assert report.table(missed) != text


def test_the_page_names_the_claims_that_are_missed_and_the_part_that_loses(results):
    rows = [{**row, "met": row is not results["comparisons"][0]} for row in results["comparisons"]]
    slow = [
        {**row, "kd_ms": row["peer_ms"] + 9 * (row["name"] == "mlp")}
        for row in results["vit_parts"]
    ]
    text = report.scaling({**results, "comparisons": rows, "vit_parts": slow})
    assert f"Not met in the run that is recorded: {rows[0]['name']}." in text
    assert "loses most is mlp, by 9 ms" in text
    assert "No GPU" in text


def test_the_gpu_part_measures_both_sides_against_the_matmul(on_gpu, results):
    assert set(on_gpu["sides"]) == {"kd", "torch"}
    assert on_gpu["losses_differ"] < gpu.LOSSES_AGREE
    rate = on_gpu["matmul"]["tflops"]["median"] * 1e12
    for side in on_gpu["sides"].values():
        done = on_gpu["flops_per_step"] / side["ms_per_step"]["median"] * 1e3
        assert side["part_of_ceiling"]["median"] == pytest.approx(done / rate, rel=0.1, abs=2e-3)
    assert "compiled" in report.scaling({**results, "gpu": on_gpu})


def test_without_a_gpu_there_is_one_line_and_no_result(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gpu, "found", lambda *_: None)
    assert gpu.main(["--out", str(tmp_path / "results.json")]) == 0
    assert capsys.readouterr().err == "no GPU that JAX can use: nothing measured\n"
    assert not list(tmp_path.iterdir())


def test_populations_are_measured_by_every_way(tmp_path):
    out = tmp_path / "results.json"
    sizes = "--members 1 2 --examples 32 --batch 4 --repeats 1"
    assert members.main([*sizes.split(), "--out", str(out)]) == 0
    results = json.loads(out.read_text())["members"]
    assert [row["members"] for row in results["rows"]] == [1, 2]
    for row in results["rows"]:
        assert list(row["ms"]) == ["vmap", "loop", "groups of 8"]
        assert all(times["median"] > 0 for times in row["ms"].values())
        assert row["met"] == (row["ratio"]["median"] <= members.REACH)
    text = report._members(results)
    assert "| 2 | " in text
    assert "python -m bench.members --members 1 2" in text


ours, theirs = Case("kd", "a", 1), Case("kd", "b", 1)


@pytest.mark.parametrize(
    ("reach", "ratio", "met"),
    [
        ({"at_least": 1.0}, 0.5, False),
        ({"at_least": 0.4}, 0.5, True),
        ({"at_most": 1.0}, 2.0, False),
        ({"at_most": 3.0}, 2.0, True),
        ({}, 0.5, True),
    ],
)
def test_a_claim_is_judged_by_speed_or_by_time(reach, ratio, met):
    samples = {ours: np.asarray([2.0, 4.0, 6.0]), theirs: np.asarray([1.0, 2.0, 3.0])}
    row = Claim("a", ours, theirs, "b", **reach).judged(samples)
    assert (row["ratio"]["median"], row["met"]) == (ratio, met)
    assert set(row["ratio"]["all"]) == {ratio}


def test_the_ratio_is_taken_within_a_round():
    """Rounds in which the machine is ten times slower change both sides' times and no ratio."""
    slow = np.asarray([1.0, 10.0, 1.0, 10.0])
    row = Claim("a", ours, theirs, "b", at_least=1.0).judged({ours: slow, theirs: 1.5 * slow})
    assert set(row["ratio"]["all"]) == {1.5}


@pytest.mark.parametrize("variant", ["Ti/16", "S/8"])
def test_pytorchs_layout_holds_every_number_of_the_parameters_once(variant):
    params = vit_problem.first_params(variant)
    moved = vit_problem.torch_layout(params)
    assert np.array_equal(np.sort(vit_problem.flat(moved)), np.sort(vit_problem.flat(params)))


def test_the_flops_of_a_vit_are_the_compilers():
    """Its count has the matrix products and, a little, everything else."""
    import jax

    from kd.models.vit import vit

    model = vit(vit_problem.CLASSES, "Ti/16", unroll=12)
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), "float32")
    params, extra = jax.eval_shape(model.init, jax.random.key(0), images)
    lowered = jax.jit(lambda p, x: model.apply(p, extra, x)[0].logits).lower(params, images)
    counted = lowered.cost_analysis()["flops"]
    assert vit_problem.forward_flops("Ti/16", 64) == pytest.approx(counted, rel=0.05)


def test_a_step_needs_a_backward_of_twice_the_forward():
    student, teacher = (vit_problem.forward_flops(variant, 32) for variant in ("Ti/16", "S/16"))
    assert gpu.step_flops("Ti/16", "S/16", 32, 5) == pytest.approx(5 * (3 * student + teacher))


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
    if "vit_parts" not in results:
        pytest.skip("bench/results.json was recorded before the ViT was measured: make bench")
    block = re.search(
        r"<!-- bench -->\n(.*)\n<!-- /bench -->", report.SCALING.read_text("utf-8"), re.DOTALL
    )
    assert block is not None
    assert block[1] == report.scaling(results)
