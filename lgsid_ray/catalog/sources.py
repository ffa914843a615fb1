"""Which files there are, how one is opened, and what tells that its content has changed."""

import zipfile
from dataclasses import dataclass
from typing import IO

import fsspec
from fsspec.core import url_to_fs

from lgsid_ray.config.catalogue import TableSource, shown
from lgsid_ray.errors import InputError

_ENDINGS = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".geojson": "json",
}
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ": "xz"}
_PACKED_ENDINGS = (".gz", ".bz2", ".xz", ".zip")


@dataclass(frozen=True)
class File:
    """One file, or one member of a zip archive."""

    path: str
    format: str
    member: str | None = None

    @property
    def label(self) -> str:
        """How messages and the quarantine name it."""
        return f"{shown(self.path)}!{self.member}" if self.member else shown(self.path)


def discover(source: TableSource) -> list[File]:
    """The files that `source.path` names, in a fixed order.

    Raises:
        InputError: there is none, one is empty, or its format is not to be told from its name.
    """
    try:
        return _discover(source)
    except (ImportError, ValueError, OSError) as error:  # no driver for the URI, no such protocol, no answer
        told = str(error.__cause__ or error).replace(source.path, shown(source.path))
        raise InputError(f"{shown(source.path)}: cannot be opened: {told}") from None


def _discover(source: TableSource) -> list[File]:
    paths = _paths(source.path)
    if not paths:
        raise InputError(f"{shown(source.path)}: no such file")
    files: list[File] = []
    for path in paths:
        fs, inner = url_to_fs(path)
        if fs.size(inner) == 0:
            raise InputError(f"{shown(path)}: the file is empty")
        name = path.partition("?")[0] if "://" in path else path
        if name.endswith(".zip") and _packing(path) is None:  # some are gzip under another name
            members = _members(path)
            if not members:
                raise InputError(f"{shown(path)}: the archive holds no file")
            files += [File(path, _format(member, source), member) for member in members]
        else:
            files.append(File(path, _format(_unpacked(name), source)))
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
            f"{file.label}: the server sends neither ETag nor Last-Modified, so a change of the file would go unseen; "
            "download it, or serve it with an ETag"
        )
    return f"{file.label} {told['size']} {mark}"


def _paths(path: str) -> list[str]:
    """Files of a folder, a glob or a single path; marks such as _SUCCESS and hidden files are passed over.

    What is there as it stands is taken so, whatever marks of a glob are in its name.
    """
    fs, inner = url_to_fs(path)
    if _is_web(fs) and not path.endswith("/") and "*" not in path:
        return [path]  # asked whether it is a folder, fsspec would fetch the whole file and look for links
    if fs.isdir(inner):
        found, root = fs.ls(inner, detail=True), inner
    elif fs.exists(inner):
        return [path]
    else:
        root = inner.partition("*")[0].partition("?")[0].partition("[")[0].rpartition("/")[0]
        found = list(fs.glob(inner, detail=True).values())
    kept = sorted((one for one in found if not _is_hidden(one["name"], root)), key=lambda one: str(one["name"]))
    folders = [one["name"].rstrip("/") for one in kept if one["type"] == "directory"]
    if folders and "**" not in path:
        # What a folder's name may tell, such as day=2024-01-01, would be lost without a word.
        glob = f"{path.rstrip('/*')}/**/*.parquet"
        raise InputError(f"{folders[0]}: a folder inside {path}; name the files with a glob, such as {glob}")
    scheme, mark, _ = path.partition("://")
    return [
        f"{scheme}{mark}{one['name'].lstrip('/')}" if mark else one["name"] for one in kept if one["type"] == "file"
    ]


def _is_hidden(name: str, root: str = "") -> bool:
    """Whether a file, or a folder that it lies in, is one that people do not see: .DS_Store, __MACOSX, _SUCCESS."""
    below = name.removeprefix(root)
    return any(part[0] in "._" for part in below.split("/") if part)


def _format(path: str, source: TableSource) -> str:
    if source.format != "auto":
        return source.format
    for ending, name in _ENDINGS.items():
        if path.lower().endswith(ending):
            return name
    packed = "; unpack it first" if path.lower().endswith((".tar", ".tgz", ".7z", ".rar", ".zst")) else ""
    raise InputError(
        f"{shown(path)}: cannot tell its format from its name{packed}; set `format` to parquet, csv, tsv, json or jsonl"
    )


def _unpacked(path: str) -> str:
    """A path without what tells how it is packed."""
    ending = next((ending for ending in _PACKED_ENDINGS if path.lower().endswith(ending)), "")
    return path[: len(path) - len(ending)]


def _members(path: str) -> list[str]:
    fs, inner = url_to_fs(path)
    try:
        with fs.open(inner, "rb") as stream, zipfile.ZipFile(stream) as archive:
            found = [one for one in archive.infolist() if not one.is_dir() and not _is_hidden(one.filename)]
    except zipfile.BadZipFile as error:
        raise InputError(f"{shown(path)}: truncated or not zip ({error}); fetch it again") from None
    for one in found:
        if one.flag_bits & 1:
            raise InputError(f"{shown(path)}!{one.filename}: encrypted; unpack the archive with its password")
    return sorted(one.filename for one in found)


def open_file(file: File) -> IO[bytes]:
    """Its bytes, unpacked."""
    fs, inner = url_to_fs(file.path)
    if file.member:
        return zipfile.ZipFile(fs.open(inner, "rb")).open(file.member)
    stream: IO[bytes] = fs.open(inner, "rb", compression=_packing(file.path))
    return stream


def _packing(path: str) -> str | None:
    """How a file is packed, by its first bytes, whatever its name."""
    fs, inner = url_to_fs(path)
    with fs.open(inner, "rb") as stream:
        head = stream.read(6)
    return next((name for mark, name in _PACKED.items() if head.startswith(mark)), None)


def _is_web(fs: fsspec.AbstractFileSystem) -> bool:
    return "https" in fs.protocol
