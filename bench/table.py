"""One line of a table: what was measured, and the mark it is held against."""

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Row:
    """`mark` is the text of the bound, `met` whether the value keeps it; a row without a mark is for comparison."""

    what: str
    value: str
    mark: str = ""
    met: bool = True


def show(rows: list[Row]) -> None:
    """Prints the table."""
    table = Table("measured", "value", "mark", "")
    for row in rows:
        table.add_row(row.what, row.value, row.mark, ("ok" if row.met else "MISSED") if row.mark else "")
    Console(width=120).print(table)
