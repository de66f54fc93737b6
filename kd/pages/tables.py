"""A table, for the terminal and for Markdown."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Group

_WIDEST = 10_000  # characters


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of text under a title. The first column is left-aligned, the others right."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """The table in Markdown, without its title."""
        rows = [[cell.replace("|", "\\|") for cell in row] for row in self.rows]
        lines = [self.columns, ["---", *["---:"] * (len(self.columns) - 1)], *rows]
        return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)

    def rich(self) -> Group:
        """The table for a terminal, below its title, which may be the wider of the two."""
        from rich import box
        from rich.console import Group
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(box=box.SIMPLE_HEAD, padding=0)
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="left" if number == 0 else "right", no_wrap=True)
        for row in self.rows:
            table.add_row(*map(Text, row))  # a name in a cell is no markup
        return Group(Text(self.title, style="italic"), table)


def show(table: Table) -> None:
    """Print a table as wide as it is: in a narrower terminal, or a file, its lines wrap and no cell
    loses a digit.
    """
    from rich.console import Console
    from rich.measure import Measurement

    drawn = table.rich()
    console = Console(highlight=False)
    wanted = Measurement.get(console, console.options.update(max_width=_WIDEST), drawn).maximum
    console.width = max(console.width, wanted)
    console.print(drawn, soft_wrap=True)


def titled(title: str, changes: Sequence[str]) -> str:
    """A title that says so where what it is about was read although it has changed."""
    return f"{title}, DESPITE CHANGES: {'; '.join(changes)}" if changes else title


def plus_minus(values: Sequence[float], digits: int = 1) -> str:
    """``mean ± sd`` of a sample; the bare value when there is one."""
    from kd.evidence import mean_sd

    mean, sd = mean_sd(values)
    return f"{mean:.{digits}f} ± {sd:.{digits}f}" if len(values) > 1 else f"{mean:.{digits}f}"
