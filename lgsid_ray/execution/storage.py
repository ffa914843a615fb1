"""A stage's directory: the one place where tables, tensors and JSON are written and read.

Local paths and every fsspec URI (s3://, gs://, memory://) go the same way. A single file is written aside and
moved into place, so that it is either whole or absent; a stage is whole once its manifest stands (see run.py).
"""

import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import IO, Any

import fsspec
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from lgsid_ray.errors import StorageError

SCRATCH = "work"
"""The member of a stage's folder that holds what only an unfinished stage needs; removed once it is finished."""


@dataclass(frozen=True)
class StageDir:
    """A folder on any file system, addressed by its URI. Picklable, so that it travels to workers."""

    uri: str

    @property
    def fs(self) -> fsspec.AbstractFileSystem:
        """The fsspec file system that holds the folder."""
        # Listings are not cached: what other processes have written since would be missing in them.
        return url_to_fs(self.uri, use_listings_cache=False)[0]

    @property
    def root(self) -> str:
        """The folder's path within `fs`."""
        return str(url_to_fs(self.uri)[1]).rstrip("/")

    @property
    def arrow(self) -> pafs.FileSystem:
        """The same file system for pyarrow and Ray Data; paths are those of `path`."""
        if self.is_local:
            return pafs.LocalFileSystem()
        return pafs.PyFileSystem(pafs.FSSpecHandler(self.fs))

    @property
    def is_local(self) -> bool:
        """Whether a plain `open` reaches the folder."""
        return "file" in _protocols(self.fs)

    def path(self, *parts: str) -> str:
        """Path of a member within `fs`; no parts: the folder itself."""
        return "/".join([self.root, *parts])

    def child(self, name: str) -> "StageDir":
        """The sub-folder `name`."""
        return StageDir(f"{self.uri.rstrip('/')}/{name}")

    def exists(self, name: str = "") -> bool:
        """Whether the member (or the folder) is there."""
        return bool(self.fs.exists(self.path(name) if name else self.root))

    def members(self, name: str) -> set[str]:
        """Names of what lies in the folder `name`; none where there is no such folder."""
        target = self.path(name)
        if not self.fs.isdir(target):
            return set()
        return {str(path).rpartition("/")[2] for path in self.fs.ls(target, detail=False)}

    def remove(self, name: str = "") -> None:
        """Delete a member or, with no name, the whole folder; absent is fine."""
        target = self.path(name) if name else self.root
        if self.fs.exists(target):
            self.fs.rm(target, recursive=True)

    def make(self) -> "StageDir":
        """Create the folder (object stores need none) and return it."""
        try:
            self.fs.makedirs(self.root, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot create the folder {self.root}: {error.strerror or error}") from error
        return self

    @contextmanager
    def write(self, name: str) -> Iterator[IO[bytes]]:
        """A binary file that appears under `name` only when the block ends without an error."""
        target = self.path(name)
        aside = f"{target}.{uuid.uuid4().hex[:8]}.part"
        try:
            self.fs.makedirs(target.rpartition("/")[0], exist_ok=True)
            with self.fs.open(aside, "wb") as file:
                yield file
            self.fs.mv(aside, target)
        except OSError as error:
            raise StorageError(f"cannot write {target}: {error}") from error
        finally:
            if self.fs.exists(aside):
                self.fs.rm(aside)

    def read(self, name: str) -> bytes:
        """The whole of a small file."""
        try:
            with self.fs.open(self.path(name), "rb") as file:
                return bytes(file.read())
        except FileNotFoundError:
            raise self._missing(name) from None

    def map(self, name: str) -> memoryview:
        """The whole of a file, read-only; on a local disk only what is looked at is read, and processes share it."""
        if not self.is_local:
            return memoryview(self.read(name))
        try:
            with Path(self.path(name)).open("rb") as file:
                return memoryview(mmap(file.fileno(), 0, access=ACCESS_READ))
        except FileNotFoundError:
            raise self._missing(name) from None
        except ValueError as error:  # an empty file
            raise self.corrupt(self.path(name), error) from None

    def _missing(self, name: str) -> StorageError:
        return StorageError(f"{self.path(name)} is missing; delete {self.root} and run again")

    def corrupt(self, path: str, why: object) -> StorageError:
        """The error for a file of this folder that cannot be understood, to be raised."""
        return StorageError(f"{path} is corrupt ({why}); delete {self.root} and run again")

    def write_json(self, name: str, value: Any) -> None:
        """Write JSON, human-readable."""
        with self.write(name) as file:
            file.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False).encode())

    def read_json(self, name: str) -> Any:
        """Read JSON.

        Raises:
            StorageError: missing or corrupt; the path and the remedy are named.
        """
        try:
            return json.loads(self.read(name))
        except ValueError as error:
            raise self.corrupt(self.path(name), error) from None

    def write_table(self, name: str, table: pa.Table) -> None:
        """Write one Parquet file."""
        with self.write(name) as file:
            pq.write_table(table, file, compression="zstd")

    def parts(self, name: str) -> list[str]:
        """Paths within `fs` of the Parquet parts of table `name` (a file or a folder), in order."""
        target = self.path(name)
        if self.fs.isdir(target):
            found = sorted(str(p) for p in self.fs.ls(target, detail=False) if str(p).endswith(".parquet"))
            if found:
                return found
        elif self.fs.exists(target):
            return [target]
        raise StorageError(f"table {target} is missing or empty; delete {self.root} and run again")

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """A whole table in part order. Only for what fits in memory by design (say so where you call it).

        Raises:
            StorageError: missing or corrupt; the part is named.
        """
        tables = [self.read_part(part, columns) for part in self.parts(name)]
        return pa.concat_tables(tables)

    def read_part(self, part: str, columns: list[str] | None = None) -> pa.Table:
        """One Parquet part, by a path from `parts`."""
        try:
            # Opened as a file: a path would invite dataset discovery, which reads folder names as columns.
            with self.arrow.open_input_file(part) as file:
                return pq.read_table(file, columns=columns)
        except (pa.ArrowInvalid, OSError) as error:
            raise self.corrupt(part, error) from None

    def count_parts(self, name: str) -> list[tuple[str, int]]:
        """The parts of a table with their rows; footers are read side by side, since a store answers slowly."""
        parts = self.parts(name)
        with ThreadPoolExecutor(16) as readers:
            return list(zip(parts, readers.map(self.count_rows, parts), strict=True))

    def count_rows(self, part: str) -> int:
        """Rows of one Parquet part, from its footer."""
        try:
            with self.arrow.open_input_file(part) as file:
                return int(pq.ParquetFile(file).metadata.num_rows)
        except (pa.ArrowInvalid, OSError) as error:
            raise self.corrupt(part, error) from None


def resolve(uri: str) -> str:
    """An absolute form of a local path; URIs are returned as they are.

    Raises:
        StorageError: no file system of that name is known, or its driver is not installed.
    """
    if "://" not in uri:
        return str(Path(uri).expanduser().resolve())
    try:
        url_to_fs(uri)
    except (ImportError, ValueError) as error:
        raise StorageError(f"{uri}: {error}") from error
    return uri


def _protocols(fs: fsspec.AbstractFileSystem) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)
