import json
import math
import pathlib
import re

import pytest

from bench import report, run


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    pytest.importorskip("torch", reason="bench/ compares with PyTorch: pip install 'kd[bench]'")
    out = tmp_path_factory.mktemp("bench") / "results.json"
    assert run.main(f"--repeats 1 --steps 2 --batches 16 --examples 64 --out {out}".split()) == 0
    return json.loads(out.read_text())


def test_a_tiny_run_measures_every_case(results):
    assert {f"{case}, batch 16" for case in run.CASES} == set(results["ms_per_step"])
    assert [row["name"] for row in results["comparisons"]] == [
        "one student, batch 16",
        "population of 5, batch 16",
        "training loop, batch 16",
    ]
    numbers = [row[key] for row in results["comparisons"] for key in ("kd_ms", "peer_ms")]
    numbers += [value for row in results["comparisons"] for value in row["ratio"]["all"]]
    assert all(math.isfinite(number) and number > 0 for number in numbers)
    assert results["machine"]["cpu"]
    assert set(results["versions"]) == {"kd", "jax", "jaxlib", "torch", "numpy"}


def test_both_sides_compute_the_same(results):
    assert 0 <= results["relative_difference"]["16"]["loss"] < run.TOLERANCE
    assert 0 <= results["relative_difference"]["16"]["update"] < run.TOLERANCE


def test_a_training_run_compiles_once(results):
    assert results["compiles_per_run"] == 1


def test_the_table_says_what_was_met(results):
    text = report.table(results)
    assert text.count("| yes |") + text.count("| no |") == len(results["comparisons"]) + 1
    missed = {**results, "comparisons": [{**row, "met": not row["met"]} for row in results["comparisons"]]}
    assert report.table(missed) != text


def test_the_readme_shows_the_committed_results():
    readme = pathlib.Path(report.README)
    if not (readme.exists() and run.RESULTS.exists()):
        pytest.skip("no committed results yet")
    block = re.search(r"<!-- bench -->\n(.*)\n<!-- /bench -->", readme.read_text("utf-8"), re.DOTALL)
    assert block is not None
    assert block[1] == report.table(json.loads(run.RESULTS.read_text("utf-8")))
