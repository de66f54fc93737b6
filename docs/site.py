"""The site's files: the repository's pages where the repository has them.

MkDocs takes one folder of pages; the README, the experiments' pages and docs/ are three. Laid out
as they lie, a relative link leads to the same page on the site and in the repository.
"""

from __future__ import annotations

import pathlib
from typing import Any

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

ROOT = pathlib.Path(__file__).parents[1]
PAGES = ("*.md", "docs/**/*.md", "docs/*.ipynb", "experiments/**/*.md")
SHOWN = ("docs/*.svg", "docs/*.css", "experiments/**/*.svg")


@event_priority(100)  # before the plugin that turns notebooks into pages
def on_files(files: Files, config: Any) -> Files:
    """The theme's own files, and ours at their paths from the root."""
    of_theme = [file for file in files if file.src_dir != config.docs_dir]
    paths = sorted(path for pattern in (*PAGES, *SHOWN) for path in ROOT.glob(pattern))
    ours = [
        File(
            path.relative_to(ROOT).as_posix(),
            src_dir=str(ROOT),
            dest_dir=config.site_dir,
            use_directory_urls=config.use_directory_urls,
        )
        for path in paths
    ]
    return Files([*of_theme, *ours])
