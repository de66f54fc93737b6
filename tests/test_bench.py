import json
import math
import pathlib
import re

import pytest

pytest.importorskip("torch", reason="bench/ compares with PyTorch: pip install 'kd[bench]'")

from bench import report, run


@pytest.fixture(scope="module")
def results(tmp_path_factory):
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
    assert set(results["versions"]) == {"python", "kd", "jax", "jaxlib", "torch", "numpy"}


def test_both_sides_compute_the_same(results):
    assert 0 <= results["relative_difference"]["16"]["loss"] < run.TOLERANCE
    assert 0 <= results["relative_difference"]["16"]["update"] < run.TOLERANCE


def test_a_training_run_compiles_once(results):
    assert results["compiles_per_run"] == 1


def test_the_table_goes_between_the_markers(results, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- bench -->\nold\n<!-- /bench -->\nafter\n")
    report.fill(readme, "bench", report.table(results))
    assert readme.read_text() == f"before\n<!-- bench -->\n{report.table(results)}\n<!-- /bench -->\nafter\n"


def test_a_readme_without_markers_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="add the two lines"):
        report.fill(tmp_path / "README.md", "bench", "text")


def test_the_readme_shows_the_committed_results():
    readme = pathlib.Path(report.README)
    if not (readme.exists() and run.RESULTS.exists()):
        pytest.skip("no committed results yet")
    block = re.search(r"<!-- bench -->\n(.*)\n<!-- /bench -->", readme.read_text("utf-8"), re.DOTALL)
    assert block is not None
    assert block[1] == report.table(json.loads(run.RESULTS.read_text("utf-8")))
