"""A page loads nothing from elsewhere and runs nothing, whatever its results say."""

import html.parser
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import runs
import traps
from experiments import EXPERIMENTS
from kd.cli.main import main
from kd.errors import KdError
from kd.names import lookup
from kd.pages.report import PAGES, Page, build_page, render, write_report
from kd.pages.tables import Table

RECORDED = sorted((runs.ROOT / "experiments").rglob("results.json"))
HOSTILE = (
    "<script src=http://x.y/z.js></script>",
    "<img src=x onerror=go()>",
    "<iframe src='//x.y'></iframe>",
    "<link rel=stylesheet href=http://x.y/z.css>",
    "![a](http://x.y/z.png)",
    "![a][b]\n\n[b]: https://x.y/z.png\n",
    "![a](//x.y/z.png)",
    "![a](figures/nowhere.svg)",
    "![a](data:image/svg+xml;base64,PHN2Zz4=)",
    "[a](javascript:go())",
    "[a](JaVaScRiPt&#58;go())",
    "[a](data:text/html,x)",
    "<javascript:go()>",
    "<style>@import 'http://x.y/z.css'</style>",
    "`",
    "\n\n",
    "```\n",
    "word ",
    '" onload="go()',
)
INERT = {"html", "head", "body", "meta", "title", "style", "p", "h1", "h2", "h3", "strong", "em"}
INERT |= {"table", "thead", "tbody", "tr", "th", "td", "ul", "ol", "li", "code", "pre", "a", "img"}
INERT |= {"br", "hr", "blockquote"}
OWN_IMAGE = "data:image/svg+xml;base64,"
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class Tags(html.parser.HTMLParser):
    """Every tag of a page, with its attributes."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def check(text):
    tags = Tags(text).tags
    for tag, attributes in tags:
        assert tag in INERT
        assert not [name for name in attributes if name.startswith("on")]
        assert re.match(r"data:image/svg\+xml;base64,", attributes.get("src", OWN_IMAGE))
        assert re.match(r"(https?:|[^:]*$)", attributes.get("href", ""))
    assert any(attributes.get("content", "").startswith(POLICY) for _, attributes in tags)
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


@given(st.lists(st.sampled_from(HOSTILE), max_size=6).map("".join))
def test_a_page_of_any_text_is_inert(text):
    page = render(f"# Title {text}\n\n{text}\n\n| a | b |\n| --- | --- |\n| {text} | 1 |\n", {})
    check(page)


def test_figures_are_shown():
    page = render("# A\n\n![b](figures/c.svg)\n", {"c.svg": "<svg/>"})
    check(page)
    assert 'src="data:image/svg+xml;base64,PHN2Zy8+" alt="b"' in page


def hostile_page(results):
    text = "\n\n".join(["# Title", *HOSTILE, results["name"]])
    return Page(text, Table("", ["a"], []), "", "", {})


def test_what_is_written_beside_it_is_inert_too(tmp_path, monkeypatch):
    """The README is Markdown, and whoever shows it may take HTML in it for HTML."""
    monkeypatch.setattr("kd.pages.report.PAGES", (f"{__name__}:hostile_page",))
    results = {"report": f"{__name__}:hostile_page", "name": HOSTILE[0]}
    (tmp_path / "results.json").write_text(json.dumps(results))
    check(write_report(tmp_path).read_text())
    readme = (tmp_path / "README.md").read_text()
    assert not re.search(r"<[a-zA-Z/!?]", readme)
    assert re.findall(r"!\[.*", readme) == ["![a](figures/nowhere.svg)"]


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.parent.name)
def test_what_is_recorded_names_pages_that_ship(path):
    results = json.loads(path.read_text())
    parts = [results, *results.get("parts", {}).values()]
    assert {part["report"] for part in parts} <= set(PAGES)


def test_every_page_that_ships_is_there():
    assert all(callable(lookup("report", name, {})) for name in PAGES)
    assert {experiment.whole for experiment in EXPERIMENTS.values()} - {""} <= set(PAGES)


def test_a_page_of_ones_own_is_asked_for(tmp_path, capsys):
    traps.packages(tmp_path / "packages")
    (tmp_path / "results.json").write_text('{"report": "mine.pages:page", "title": "Mine"}')
    with traps.importable(tmp_path / "packages"):
        assert main(["report", str(tmp_path)]) == 2
        file = tmp_path / "results.json"
        told = f"kd: {file} names code of its own, 'mine.pages:page'; if you trust it, add "
        assert capsys.readouterr().err == f"{told}--allow_code=mine\n"
        assert main(["report", str(tmp_path), "--allow_code=mine"]) == 0
    assert (tmp_path / "README.md").read_text() == "# Mine"


def test_no_results_name_code(tmp_path, capsys):
    traps.packages(tmp_path / "packages")
    with traps.importable(tmp_path / "packages"):
        for name in ("trap:go", "os:system", "mine.pages:page", "kd.cli.main:main", "trap"):
            (tmp_path / "results.json").write_text(json.dumps({"report": name, "cmd": "id"}))
            assert main(["report", str(tmp_path)]) == 2
            assert capsys.readouterr().err.count("\n") == 1
            with pytest.raises(KdError, match=r"results\.json names"):
                build_page({"report": name})
            with pytest.raises(KdError, match=r"results\.json names"):  # a part of a whole page
                build_page({"report": PAGES[0], "parts": {"hinton2015-mnist": {"report": name}}})
        assert not traps.sprung()
