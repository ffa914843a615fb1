"""Markdown that is read in a terminal as often as on a page."""

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose columns also stand under each other as plain text; a column of numbers to the right."""
    cells = [[one_line(cell).replace("|", "\\|") for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    right = [all(row[place][:1] in set("0123456789-–") for row in cells[1:]) for place in range(len(head))]
    rule = [f"{'-' * (width - 1)}{':' if end else '-'}" for width, end in zip(widths, right, strict=True)]
    pad = [str.rjust if end else str.ljust for end in right]
    lines = [cells[0], rule, *cells[1:]]
    return "\n".join(f"| {' | '.join(p(c, w) for p, c, w in zip(pad, line, widths, strict=True))} |" for line in lines)


def one_line(text: str) -> str:
    """`text` without line breaks, which would end a row or an entry."""
    return " ".join(text.split())
