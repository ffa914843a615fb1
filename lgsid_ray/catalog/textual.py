"""Lines of text files, decoded; a line that cannot be is told, and too many of them stop the file."""

import io
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import IO

from lgsid_ray.catalog.sources import File
from lgsid_ray.config.catalogue import TableSource
from lgsid_ray.errors import InputError

_MOST_UNDECODABLE = 0.01
"""A larger share of lines that cannot be decoded tells that the file is in another encoding."""
_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}


class Lines:
    """The lines of a file with their ends, remembered from one `begin` to the next.

    Attributes:
        number: 1-based, of the latest line.
        current: the lines since `begin`.
        undecodable: why one of them cannot be read, or empty.
    """

    def __init__(self, stream: IO[bytes], file: File, source: TableSource) -> None:
        buffered = io.BufferedReader(stream, 1 << 20)  # type: ignore[type-var]
        head = buffered.peek(4)[:3]
        self.encoding = next((name for mark, name in _MARKS.items() if head.startswith(mark)), source.encoding)
        errors = "strict" if self.encoding.startswith("utf-16") else "surrogateescape"
        self._text = io.TextIOWrapper(buffered, self.encoding, errors=errors, newline="")
        self._file, self._ahead = file, deque[str]()
        self.number = self._bad = self._first_bad = 0
        self.current: list[str] = []
        self.undecodable = ""

    def begin(self) -> None:
        """Forget the lines so far: a new record begins."""
        self.current.clear()
        self.undecodable = ""

    def peek(self) -> str:
        """The next line, which stays the next; empty at the end."""
        if not self._ahead:
            self._ahead.extend(islice(self._text, 1))
        return self._ahead[0] if self._ahead else ""

    def take(self, count: int) -> list[str]:
        """The next `count` lines, or what is left of them, as they are: the quick way for lines that need no care."""
        lines = [self._ahead.popleft() for _ in range(min(count, len(self._ahead)))]
        lines += islice(self._text, count - len(lines))
        self.number += len(lines)
        return lines

    def put_back(self, lines: list[str]) -> None:
        """Make the lines of the latest `take` the next again."""
        self.number -= len(lines)
        self._ahead.extendleft(reversed(lines))

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._ahead.popleft() if self._ahead else next(self._text)
        self.number += 1
        self.current.append(line if is_text(line) else self._spelled(line))
        return self.current[-1]

    def block(self, size: int) -> str:
        """Up to `size` characters on from the latest line, whatever lines they are."""
        return self._ahead.popleft() if self._ahead else self._text.read(size)

    def close(self) -> None:
        """What can be told at the end only.

        Raises:
            InputError: more lines than a few cannot be decoded.
        """
        if self._bad > _MOST_UNDECODABLE * self.number:
            raise self._wrong_encoding()

    def _spelled(self, line: str) -> str:
        """A line that could not be decoded, with its bytes spelled out."""
        self._bad += 1
        self._first_bad = self._first_bad or self.number
        if self.number == 1:
            raise self._wrong_encoding()
        byte = next(ord(one) & 0xFF for one in line if not is_text(one))
        self.undecodable = f"not {self.encoding} (byte 0x{byte:02x}); set `encoding` if the file is in another"
        return line.encode("utf-8", "backslashreplace").decode()

    def _wrong_encoding(self) -> InputError:
        return InputError(
            f"{self._file.label}: line {self._first_bad} is not {self.encoding}, nor are {self._bad} of "
            f"{self.number} lines; set `encoding`, for example to cp1252 or gb18030"
        )


def is_text(value: str) -> bool:
    """Whether a string is one that files hold: without bytes that could not be decoded, or halves of pairs."""
    if value.isascii():
        return True
    try:
        value.encode()
        return True
    except UnicodeEncodeError:
        return False
