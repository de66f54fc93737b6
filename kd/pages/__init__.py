"""What people read: tables in the terminal, Markdown, figures, HTML."""

from kd.pages.report import (
    Page,
    build_page,
    demoted,
    fill_file,
    load_results,
    plain_axes,
    write_report,
)
from kd.pages.tables import Table, plus_minus, show, titled

__all__ = [
    "Page",
    "Table",
    "build_page",
    "demoted",
    "fill_file",
    "load_results",
    "plain_axes",
    "plus_minus",
    "show",
    "titled",
    "write_report",
]
