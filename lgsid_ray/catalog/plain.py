"""Lines that are a record each, as those of nearly all delimited files are, cut into columns at once by Arrow.

Arrow forgives what csv refuses, so it is asked only where no two parsers could disagree.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from pyarrow import csv

LONGEST_FIELD = 4 << 20
"""Characters; a longer one is a quote that was never closed."""


def cut(lines: Sequence[str], width: int, delimiter: str, quote: str | None) -> pa.RecordBatch | None:
    """The fields of lines with their ends, a column for each place; None: not every line is a record of `width` fields.

    None is also the answer where that takes more than a look at each quote to tell.
    """
    text = "".join(lines)
    if len(text) > LONGEST_FIELD and max(map(len, lines)) > LONGEST_FIELD:
        return None
    try:
        # With line ends around it, which are no rows, every quote has neighbours, and Arrow takes no BOM off.
        data = f"\n{text}\n".encode()
        if quote is not None and (quote == delimiter or not _are_paired(data, delimiter, quote)):
            return None
        table = _parsed(data, width, delimiter, quote)
    except (ValueError, OverflowError):  # no UTF-8, a mark that is not ASCII, other numbers of fields, 2 GB or more
        return None
    # Empty lines are no rows, and a row of several lines is one: none of either where the numbers are the same.
    return table.to_batches()[0] if len(table) == len(lines) else None


def _are_paired(data: bytes, delimiter: str, quote: str) -> bool:
    """Whether quotes begin and end fields by turns, but for two in a row, which stand for one within."""
    marks = np.frombuffer(data, np.uint8)
    quotes = np.flatnonzero(marks == ord(quote))
    fit = np.isin(np.arange(256), list(f"{delimiter}{quote}\r\n".encode()))
    opening, closing = quotes[::2], quotes[1::2]
    return len(opening) == len(closing) and bool(fit[marks[opening - 1]].all() and fit[marks[closing + 1]].all())


def _parsed(data: bytes, width: int, delimiter: str, quote: str | None) -> pa.Table:
    names = list(map(str, range(width)))
    return csv.read_csv(
        pa.BufferReader(data),
        csv.ReadOptions(use_threads=False, block_size=len(data), column_names=names),
        csv.ParseOptions(delimiter=delimiter, quote_char=quote or False),
        csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), check_utf8=False),
    )
