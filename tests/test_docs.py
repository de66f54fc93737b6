"""The pages say what the code says."""

import pathlib
import re

import pytest

from kd.core.losses import LOSSES

DOCS = pathlib.Path(__file__).parents[1] / "docs"
PAGE = "\n".join(page.read_text("utf-8") for page in sorted(DOCS.glob("losses*.md")))
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE, flags=re.MULTILINE | re.DOTALL))

every_loss = pytest.mark.parametrize("name", sorted(LOSSES))


@every_loss
def test_every_loss_has_a_section_with_every_point(name):
    for point in (
        "Formula",
        "Direction",
        "T²",
        "Gradient",
        "Paper",
        "When to use",
        "How it fails elsewhere",
    ):
        assert f"{point}: " in SECTIONS[name], point


def test_every_section_of_a_loss_is_a_loss():
    assert {name for name, text in SECTIONS.items() if "Formula: " in text} == set(LOSSES)


@every_loss
def test_the_formula_is_that_of_the_docstring(name):
    documented = re.search(r"Formula:\s+``(.*?)``", LOSSES[name].loss.__doc__, flags=re.DOTALL)
    assert f"Formula: `{' '.join(documented[1].split())}`" in SECTIONS[name]


@every_loss
def test_the_paper_is_that_of_the_docstring(name):
    source = LOSSES[name].loss.__doc__.partition("Source:")[2]
    assert re.findall(r"\(\d{4}\)", source)
    assert set(re.findall(r"\(\d{4}\)", source)) <= set(re.findall(r"\(\d{4}\)", SECTIONS[name]))


@every_loss
def test_the_table_says_what_the_loss_reads(name):
    row = re.search(rf"^\| `{name}` \|(.*)\|$", PAGE, flags=re.MULTILINE)[1].split("|")
    numbers, labels = LOSSES[name].numbers, LOSSES[name].labels
    assert set(re.findall(r"`(\w+)`", row[2])) == set(numbers)
    assert row[3].strip() == ("yes" if labels else "no")
