"""Lines of text files, decoded; a line that cannot be is told, and too many of them stop the file."""

import io
from collections.abc import Iterator
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
        lenient = self.encoding.startswith("utf-16")
        self._text = io.TextIOWrapper(
            buffered, self.encoding, errors="strict" if lenient else "surrogateescape", newline=""
        )
        self._file, self._ahead = file, list[str]()
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
            self._ahead.append(self._text.readline())
        return self._ahead[0]

    def skip(self) -> None:
        """Pass over the next line."""
        next(self, None)
        self.begin()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._ahead.pop() if self._ahead else self._text.readline()
        if not line:
            raise StopIteration
        self.number += 1
        if not line.isascii():
            line = self._decoded(line)
        self.current.append(line)
        return line

    def block(self, size: int) -> str:
        """Up to `size` characters on from the latest line, whatever lines they are."""
        return self._ahead.pop() if self._ahead else self._text.read(size)

    def close(self) -> None:
        """What can be told at the end only.

        Raises:
            InputError: more lines than a few cannot be decoded.
        """
        if self._bad > _MOST_UNDECODABLE * self.number:
            raise self._wrong_encoding()

    def _decoded(self, line: str) -> str:
        """The line; where it could not be decoded, with the bytes spelled out."""
        try:
            line.encode("utf-8")
            return line
        except UnicodeEncodeError as error:
            self._bad += 1
            self._first_bad = self._first_bad or self.number
            if self.number == 1:
                raise self._wrong_encoding() from None
            byte = ord(line[error.start]) & 0xFF
            self.undecodable = f"not {self.encoding} (byte 0x{byte:02x}); set `encoding` if the file is in another"
            return line.encode("utf-8", "backslashreplace").decode()

    def _wrong_encoding(self) -> InputError:
        return InputError(
            f"{self._file.label}: line {self._first_bad} is not {self.encoding}, nor are {self._bad} of "
            f"{self.number} lines; set `encoding`, for example to cp1252 or gb18030"
        )
