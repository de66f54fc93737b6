"""Reports: every word comes from results.json, the same results give the same bytes, and a page
needs nothing else.
"""

import copy
import functools
import json
import re

import numpy as np
import pytest
from rich.console import Console

import runs
from experiments import EXPERIMENTS
from experiments.hinton2015.page import ORDER
from experiments.index import index, prints, verdicts
from kd.config import resolve, to_json
from kd.errors import KdError
from kd.pages.report import build_page, fill, load_results, write_report
from kd.pages.reproduce import record
from kd.pages.tables import Table

SEEDS, EXAMPLES = 5, 500


@pytest.mark.parametrize("words", [1, 40])
def test_a_title_takes_no_room_from_the_cells(words):
    table = Table("title " * words, ["", "first", "second"], [["row", "1.2345", "12,345.67"]])
    with (console := Console(width=40)).capture() as shown:
        console.print(table.rich())
    assert shown.get().count("title") == words
    assert [line.split() for line in shown.get().splitlines() if "row" in line] == [
        ["row", "1.2345", "12,345.67"]
    ]


def members(random, count, errors):
    drawn = []
    for _ in range(count):
        wrong = np.sort(
            random.choice(EXAMPLES, errors + int(random.integers(0, 9)), replace=False)
        ).tolist()
        numbers = dict(zip(("nll", "ece", "brier"), random.random(3).tolist(), strict=True))
        drawn.append(
            {"wrong": wrong, "errors": len(wrong), "accuracy": 1 - len(wrong) / EXAMPLES, **numbers}
        )
    return drawn


@functools.cache
def _results():
    random = np.random.default_rng(0)
    pair = {"agreement": 0.9, "agreement_on_errors": None, "held_out_kl": 0.2}
    arm = json.loads(to_json(resolve(runs.get_config("distilled"))))
    arm |= {
        "total_epochs": 60.0,
        "total_steps": None,
        "student": {"name": "mlp", "widths": [8], "hidden_dropout": 0.5},
    }
    return {
        "experiment": "hinton2015-digits",
        "command": "kd reproduce hinton2015-digits",
        "fingerprint": "0123456789ab",
        "machine": {
            "cpu": "A CPU",
            "cores": 2,
            "devices": "1 x cpu",
            "python": "3.11",
            "versions": {"jax": "0.10"},
        },
        "report": "experiments.hinton2015.digits.page:page",
        "protocol": {
            "paper": {},
            **{name: copy.deepcopy(arm) for name in ("teachers", "baseline", "distilled")},
        },
        "stages": [{"name": "teachers", "fingerprint": "ba9876543210", "seconds": 7.5}],
        "test_examples": EXAMPLES,
        "seeds": list(range(SEEDS)),
        "arms": {
            "teachers": {"members": members(random, 4, 20)},
            "ensemble": {"members": members(random, 1, 15)},
            "baseline": {"members": members(random, SEEDS, 60)},
            "distilled": {"members": members(random, SEEDS, 25)},
        },
        "pair": {
            "baseline": [dict(pair) for _ in range(SEEDS)],
            "distilled": [dict(pair) for _ in range(SEEDS)],
        },
        "temperatures": [{"temperature": t, "errors": [30, 31, 40, 33, 35]} for t in (1.0, 4.0)],
        "main_temperature": 4.0,
        "curves": {"baseline": [{"step": s, "errors": [90, 80, 70, 85, 75]} for s in (1, 2)]},
    }


@pytest.fixture
def results():
    return copy.deepcopy(_results())


def change(results, path):
    """Move the number at `path` a little."""
    *parents, leaf = path
    here = functools.reduce(lambda tree, key: tree[key], parents, results)
    here[leaf] += 3


SHOWN = [
    ("test_examples",),
    ("seeds", 0),
    ("temperatures", 0, "temperature"),
    ("temperatures", 1, "errors", 2),
    ("machine", "cores"),
    ("stages", 0, "seconds"),
    ("protocol", "teachers", "total_epochs"),
    ("protocol", "teachers", "student", "hidden_dropout"),
    ("protocol", "baseline", "student", "widths", 0),
    ("protocol", "baseline", "data", "batch_size"),
    ("protocol", "baseline", "optim", "momentum"),
    ("protocol", "distilled", "optim", "learning_rate"),
    ("protocol", "distilled", "objective", "soft_targets", "temperature"),
    ("protocol", "distilled", "objective", "hard", "weight"),
    *[
        ("arms", arm, "members", 0, name)
        for arm in ("teachers", "ensemble", "baseline", "distilled")
        for name in ("errors", "accuracy", "nll", "ece")
    ],
    *[
        ("pair", arm, 1, name)
        for arm in ("baseline", "distilled")
        for name in ("agreement", "held_out_kl")
    ],
]


@pytest.mark.parametrize("path", SHOWN, ids=lambda path: ".".join(map(str, path)))
def test_another_number_is_another_text(results, path):
    before = build_page(results).markdown
    change(results, path)
    assert build_page(results).markdown != before


def test_every_number_of_the_main_table_is_of_its_own_row(results):
    """Moving one arm moves its row, and no other."""
    before = build_page(results).table.rows
    for row, arm in enumerate(("teachers", "ensemble", "baseline", "distilled")):
        moved = copy.deepcopy(results)
        for member in moved["arms"][arm]["members"]:
            member |= {name: member[name] + 3 for name in ("errors", "accuracy", "nll", "ece")}
        after = build_page(moved).table.rows
        assert [i for i in range(4) if before[i] != after[i]] == [row]
        cells = [cell != other for cell, other in zip(before[row], after[row], strict=True)]
        assert cells == [False, True, True, True, True, False, False, False]


def test_the_verdict_comes_from_the_rows_that_were_wrong(results):
    assert "HELPS" in build_page(results).verdict
    arms = results["arms"]
    arms["baseline"], arms["distilled"] = arms["distilled"], arms["baseline"]
    assert "HURTS" in build_page(results).verdict
    arms["baseline"] = arms["distilled"]
    assert "NO EVIDENCE" in build_page(results).verdict


def test_the_papers_numbers_are_shown_where_there_are_any(results):
    assert "paper" not in build_page(results).markdown
    results["protocol"]["paper"] = {"teachers": 67}
    page = build_page(results)
    assert [row[1] for row in page.table.rows] == ["67", "–", "–", "–"]
    assert "paper" in page.markdown


def test_a_protocol_in_steps_or_with_another_model_has_a_page_too(results):
    teachers = results["protocol"]["teachers"]
    teachers |= {"total_epochs": None, "total_steps": 12345, "student": {"name": "my.module:net"}}
    teachers["objective"]["hard"]["weight_schedule"] = {"shape": "linear"}
    assert "12345 steps" in build_page(results).markdown
    assert "my.module:net" in build_page(results).markdown


def write(results, folder):
    folder.mkdir(exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results))
    return write_report(folder)


def test_the_same_results_give_the_same_bytes(results, tmp_path):
    write(results, tmp_path / "a")
    before = runs.hashes(tmp_path / "a")
    assert set(before) >= {"README.md", "report.html", "results.json", "figures/arms.svg"}
    write_report(tmp_path / "a")
    assert runs.hashes(tmp_path / "a") == before
    write(results, tmp_path / "b")
    assert runs.hashes(tmp_path / "b") == before
    change(results, ("curves", "baseline", 1, "errors", 0))
    write(results, tmp_path / "b")
    assert {
        name for name, value in runs.hashes(tmp_path / "b").items() if value != before[name]
    } == {
        "results.json",
        "report.html",
        "figures/curves.svg",
    }


def test_the_html_page_needs_no_other_file(results, tmp_path):
    html = write(results, tmp_path / "a").read_text()
    targets = re.findall(r"""(?:src|href|url|action)\s*[=(]\s*["']?([^"')\s>]+)""", html)
    assert len(targets) == 3  # the figures
    assert all(target.startswith("data:image/svg+xml;base64,") for target in targets)
    assert not re.search(r"figures/|<script|<link|<iframe|@import", html)
    assert "<table>" in html
    assert "Verdict" in html


def test_what_a_page_shows_is_text_not_markup(results, tmp_path):
    results["machine"]["cpu"] = "<script>alert(1)</script>"
    assert "<script" not in write(results, tmp_path / "a").read_text()


def test_fill_replaces_its_block_and_nothing_else():
    text = "a\n<!-- x -->\nold\n<!-- /x -->\nb\n<!-- y -->\nold\n<!-- /y -->\n"
    filled = fill(text, "x", r"new \1 \g<0>")
    assert filled == "a\n<!-- x -->\nnew \\1 \\g<0>\n<!-- /x -->\nb\n<!-- y -->\nold\n<!-- /y -->\n"
    assert fill(filled, "x", r"new \1 \g<0>") == filled
    for marker in ("z", "x.", "X"):
        with pytest.raises(KdError, match="no markers"):
            fill(text, marker, "new")
    with pytest.raises(KdError, match="no markers"):
        fill(text.replace("<!-- /x -->", ""), "x", "new")


def test_record_keeps_the_result_and_writes_its_page(results, tmp_path):
    write(results, tmp_path / "run")
    kept = tmp_path / "experiments" / "digits"
    record("hinton2015-digits", tmp_path / "run", kept)
    assert load_results(kept) == results
    assert (kept / "README.md").read_text() == build_page(results).markdown


RECORDED = sorted(path.parent for path in (runs.ROOT / "experiments").rglob("results.json"))


@pytest.mark.parametrize("folder", RECORDED, ids=lambda folder: "-".join(folder.parts[-2:]))
def test_a_recorded_page_is_what_its_results_say(folder):
    kept = load_results(folder)
    page = build_page(kept)
    assert (folder / "README.md").read_text() == page.markdown, f"kd report {folder}"
    for figure in page.figures:
        assert (folder / "figures" / figure).is_file()


def test_index_and_readme_say_what_is_recorded():
    again = "python -m experiments.index"
    assert (runs.ROOT / "experiments" / "README.md").read_text() == index(), again
    readme = (runs.ROOT / "README.md").read_text()
    assert readme == fill(readme, "results", verdicts()), again
    assert readme == fill(readme, "prints", prints()), again
    assert verdicts().count("Verdict: ") == len(EXPERIMENTS)


def test_parts_are_kept_side_by_side(results, tmp_path):
    kept = tmp_path / "kept"
    for name in reversed(ORDER):
        write({**results, "experiment": name}, tmp_path / name)
        record(name, tmp_path / name, kept, "experiments.hinton2015.page:page")
    assert list(load_results(kept)["parts"]) == list(reversed(ORDER))
    text = (kept / "README.md").read_text()
    positions = [text.index(f"\n## {name}") for name in ORDER]
    assert positions == sorted(positions)
    assert len(re.findall(r"^# ", text, flags=re.MULTILINE)) == 1
    for figure in re.findall(r"figures/([^)]+)", text):
        assert (kept / "figures" / figure).is_file()
        assert figure.startswith(("mnist-", "speech-", "specialists-"))


def test_something_is_recorded():
    if not RECORDED:
        pytest.skip("no results.json under experiments/ yet")
