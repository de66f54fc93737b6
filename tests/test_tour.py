"""The notebook runs from top to bottom, warns of nothing, and says what is committed."""

import re

import pytest

import tour

NUMBER = re.compile(r"[-+]?\d[\d,.]*")


def lines(cell):
    return [line.split() for line in NUMBER.sub("N", tour.printed(cell)).splitlines()]


def test_what_is_committed_is_text_and_small():
    """It reads at once, here and in a diff: no pictures, no markup, no paths of a machine."""
    outputs = [output for cell in tour.code_cells(tour.read()) for output in cell.outputs]
    assert {(output.output_type, output.get("name")) for output in outputs} == {
        ("stream", "stdout")
    }
    assert tour.NOTEBOOK.stat().st_size < 20_000
    assert "/root" not in tour.NOTEBOOK.read_text("utf-8")
    assert "/home" not in tour.NOTEBOOK.read_text("utf-8")


@pytest.mark.timeout(150)
def test_it_runs_and_says_what_is_committed(tmp_path):
    """Word for word: the verdicts too. Numbers may differ between machines in their last digit."""
    now, kept = tour.code_cells(tour.executed(tmp_path)), tour.code_cells(tour.read())
    assert [lines(cell) for cell in now] == [lines(cell) for cell in kept], "python -m tests.tour"
    assert "HELPS" in "".join(map(tour.printed, now))
