"""Which files there are, how one is opened, and what tells that its content has changed."""

import glob
import zipfile
from dataclasses import dataclass
from typing import IO

import fsspec
from fsspec.core import open_files, url_to_fs

from lgsid_ray.config.catalogue import TableSource
from lgsid_ray.errors import InputError

_ENDINGS = {".parquet": "parquet", ".csv": "csv", ".tsv": "tsv", ".txt": "csv", ".jsonl": "jsonl", ".json": "jsonl"}


@dataclass(frozen=True)
class File:
    """One file, or one member of a zip archive."""

    path: str
    format: str
    member: str | None = None

    @property
    def label(self) -> str:
        """How messages and the quarantine name it."""
        return f"{self.path}!{self.member}" if self.member else self.path


def discover(source: TableSource) -> list[File]:
    """The files that `source.path` names, in a fixed order.

    Raises:
        InputError: there is none, one is empty, or its format is not to be told from its name.
    """
    try:
        return _discover(source)
    except (ImportError, ValueError, OSError) as error:  # no driver for the URI, no such protocol, no answer
        raise InputError(f"{source.path}: cannot be opened: {error.__cause__ or error}") from error


def _discover(source: TableSource) -> list[File]:
    paths = _paths(source.path)
    if not paths:
        raise InputError(f"{source.path}: no such file")
    files: list[File] = []
    for path in paths:
        fs, inner = url_to_fs(path)
        if fs.size(inner) == 0:
            raise InputError(f"{path}: the file is empty")
        if path.endswith(".zip") and not _is_gzip(path):  # some are gzip under another name
            members = _members(path)
            if not members:
                raise InputError(f"{path}: the archive holds no file")
            files += [File(path, _format(member, source), member) for member in members]
        else:
            files.append(File(path, _format(path.removesuffix(".gz").removesuffix(".zip"), source)))
    return files


def identity(file: File) -> str:
    """What changes with the file's content: its path and the store's own mark (size and time, or ETag).

    Raises:
        InputError: it lies on a web server that sends neither ETag nor Last-Modified.
    """
    fs, inner = url_to_fs(file.path)
    if not _is_web(fs):
        return f"{file.label} {fs.ukey(inner)}"
    # fsspec's own mark of a web file is its address alone.
    told = fs.info(inner)
    mark = told.get("ETag") or told.get("Last-Modified")
    if mark is None:
        raise InputError(
            f"{file.path}: the server sends neither ETag nor Last-Modified, so a change of the file would go unseen; "
            "download it, or serve it with an ETag"
        )
    return f"{file.label} {told['size']} {mark}"


def _paths(path: str) -> list[str]:
    """Files of a folder, a glob or a single path; marks such as _SUCCESS and hidden files are passed over."""
    fs, inner = url_to_fs(path)
    remote = "://" in path
    if _is_web(fs) and not path.endswith("/") and "*" not in path:
        return [path]  # asked whether it is a folder, fsspec would fetch the whole file and look for links
    if fs.isdir(inner):
        found = [path.rstrip("/") + "/" + name.rstrip("/").rpartition("/")[2] for name in fs.ls(inner, detail=False)]
    elif any(mark in path for mark in "*?["):
        found = [file.full_name for file in open_files(path, "rb")] if remote else glob.glob(path)
    else:
        return [path] if fs.exists(inner) else []
    found = sorted(name for name in found if name.rpartition("/")[2][0] not in "_.")
    folders = [name for name in found if fs.isdir(url_to_fs(name)[1])]
    if folders:
        # What a folder's name may tell, such as day=2024-01-01, would be lost without a word.
        raise InputError(
            f"{folders[0]}: a folder inside {path}; name the files with a glob, such as {path}/*/*.parquet"
        )
    return found


def _format(path: str, source: TableSource) -> str:
    if source.format != "auto":
        return source.format
    for ending, name in _ENDINGS.items():
        if path.lower().endswith(ending):
            return name
    raise InputError(f"{path}: cannot tell its format from its name; set `format` to parquet, csv, tsv or jsonl")


def _members(path: str) -> list[str]:
    fs, inner = url_to_fs(path)
    try:
        with fs.open(inner, "rb") as stream, zipfile.ZipFile(stream) as archive:
            return sorted(name for name in archive.namelist() if not name.endswith("/"))
    except zipfile.BadZipFile as error:
        raise InputError(f"{path}: truncated or not zip ({error}); fetch it again") from None


def open_file(file: File) -> IO[bytes]:
    """Its bytes, unpacked."""
    fs, inner = url_to_fs(file.path)
    if file.member:
        return zipfile.ZipFile(fs.open(inner, "rb")).open(file.member)
    stream: IO[bytes] = fs.open(inner, "rb", compression="gzip" if _is_gzip(file.path) else None)
    return stream


def _is_gzip(path: str) -> bool:
    """By its first bytes, whatever its name."""
    fs, inner = url_to_fs(path)
    with fs.open(inner, "rb") as head:
        return bool(head.read(2) == b"\x1f\x8b")


def _is_web(fs: fsspec.AbstractFileSystem) -> bool:
    return "https" in fs.protocol
