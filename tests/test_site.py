"""The site's pages are those that there are, and every link inside leads somewhere."""

import re
from urllib.parse import unquote

import pytest
import yaml
from markdown_it import MarkdownIt

import kd
import runs
import tour

CONFIG = yaml.safe_load((runs.ROOT / "mkdocs.yml").read_text("utf-8"))
PAGES = sorted(
    path.relative_to(runs.ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "docs/*.ipynb", "experiments/**/*.md")
    for path in runs.ROOT.glob(pattern)
)


def leaves(tree):
    if isinstance(tree, str):
        return [tree]
    parts = tree.values() if isinstance(tree, dict) else tree
    return [leaf for part in parts for leaf in leaves(part)]


NAV = leaves(CONFIG["nav"])


def markdown(page):
    if page.endswith(".ipynb"):
        cells = [cell.source for cell in tour.read().cells if cell.cell_type == "markdown"]
        return "\n\n".join(cells)
    return (runs.ROOT / page).read_text("utf-8")


def tokens(text):
    flat = MarkdownIt("commonmark").enable("table").parse(text)
    return [leaf for token in flat for leaf in (token, *(token.children or ()))]


def links(text):
    """What a text links to and shows, addresses of other hosts left out."""
    targets = [token.attrGet("href") or token.attrGet("src") for token in tokens(text)]
    return [unquote(target) for target in targets if target and "://" not in target]


def anchors(text):
    """Of its headings, as the site and the usual hosts of repositories spell them."""
    parsed = MarkdownIt("commonmark").parse(text)
    headings = [
        parsed[i + 1].content for i, token in enumerate(parsed) if token.type == "heading_open"
    ]
    plain = [re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings]
    return {re.sub(r"\s+", "-", heading) for heading in plain}


def test_the_navigation_has_every_page_once():
    """A new page has its line in mkdocs.yml, or nobody finds it."""
    assert sorted(NAV) == PAGES


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    folder = (runs.ROOT / page).parent
    for link in links(markdown(page)):
        path, _, anchor = link.partition("#")
        target = (folder / path).resolve() if path else runs.ROOT / page
        assert target.is_file(), f"{page}: {link}"
        if anchor:
            assert anchor in anchors(markdown(target.relative_to(runs.ROOT).as_posix())), link


def test_the_law_of_links_sees_them():
    text = "# A b\n[a](docs/x.md#a-b) ![b](figures/b.svg) [c](https://example.org) `[d](e)`"
    assert links(text) == ["docs/x.md#a-b", "figures/b.svg"]
    assert anchors(text) == {"a-b"}


OWN_PAGES = {"evals", "evidence", "provenance", "specialists"}


def test_every_name_of_the_library_is_in_the_reference():
    """Once; the measures and the evidence have pages of their own."""
    text = markdown("docs/api/kd.md")
    named = re.findall(r"^::: kd\.(?:models\.linen\.)?(\w+)$", text, re.MULTILINE)
    assert sorted(named) == sorted(set(kd.__all__) - OWN_PAGES)
    for name in OWN_PAGES:
        assert f"::: kd.{name}\n" in markdown(f"docs/api/{name}.md")


def test_pages_load_nothing_from_elsewhere():
    """The theme asks no font server; of the plugins, none downloads."""
    assert CONFIG["theme"]["font"] is False
    assert not {"privacy", "social", "offline"} & {
        name if isinstance(name, str) else next(iter(name)) for name in CONFIG["plugins"]
    }
