"""What tells that a file's content has changed, on a disk and on a web server."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from lgsid_ray.catalog.readers import read
from lgsid_ray.catalog.scan import scan, units
from lgsid_ray.catalog.sources import discover, identity
from lgsid_ray.catalog.stage import source_identities
from lgsid_ray.config import RunConfig, to_yaml
from lgsid_ray.config.catalogue import TableSource, shown
from lgsid_ray.errors import InputError


class Server(SimpleHTTPRequestHandler):
    """Sends the headers of `sent`, and none of the other two."""

    def __init__(self, *arguments: object, sent: frozenset[str], directory: str) -> None:
        self.sent = sent
        super().__init__(*arguments, directory=directory)  # type: ignore[arg-type]

    def send_header(self, keyword: str, value: str) -> None:
        if keyword != "Last-Modified" or keyword in self.sent:
            super().send_header(keyword, value)

    def end_headers(self) -> None:
        path = Path(self.translate_path(self.path))
        if "ETag" in self.sent and path.is_file():
            self.send_header("ETag", hashlib.sha256(path.read_bytes()).hexdigest())
        super().end_headers()

    def log_request(self, *arguments: object) -> None:
        """Nothing: the test's output stays clean."""


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Starts a server of `tmp_path` that sends these headers, and gives the address of its items.csv."""
    servers: list[ThreadingHTTPServer] = []

    def start(*sent: str) -> str:
        handler = partial(Server, sent=frozenset(sent), directory=str(tmp_path))
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), handler))
        Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/items.csv"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def write(path: Path, text: str, modified: int) -> None:
    path.write_text(text)
    os.utime(path, (modified, modified))


def of(path: str) -> list[str]:
    source = {"kind": "files", "items": {"path": path}}
    return source_identities(RunConfig.model_validate({"catalogue": {"source": source}}))


def test_a_file_on_disk_is_known_by_size_and_time(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    write(path, "item_id,name\n1,a\n", 1_700_000_000)
    before = of(str(path))
    assert before == of(str(path))
    write(path, "item_id,name\n1,b\n", 1_700_000_060)
    assert of(str(path)) != before


@pytest.mark.parametrize("header", ["ETag", "Last-Modified"])
def test_a_file_on_a_web_server_is_known_by_what_the_server_sends(
    tmp_path: Path, serve: Callable[..., str], header: str
) -> None:
    write(tmp_path / "items.csv", "item_id,name\n1,a\n", 1_700_000_000)
    url = serve(header)
    before = of(url)
    assert before == of(url)
    source = TableSource(path=url)
    (chunk,) = (chunk for file in discover(source) for chunk in read(file, source, "items"))
    assert chunk.columns["name"].values.to_pylist() == ["a"]
    write(tmp_path / "items.csv", "item_id,name\n1,b\n", 1_700_000_060)
    assert of(url) != before


def test_secrets_of_a_url_are_not_written_down_and_do_not_tell_files_apart(
    tmp_path: Path, serve: Callable[..., str]
) -> None:
    write(tmp_path / "items.csv", "item_id,name\n1,a\n2,\n", 1_700_000_000)
    url = serve("ETag")
    signed = [f"{url}?X-Signature={secret}" for secret in ("hush1", "hush2")]
    assert of(signed[0]) == of(signed[1])
    config = RunConfig.model_validate({"catalogue": {"source": {"kind": "files", "items": {"path": signed[0]}}}})
    (part,) = scan(units(config.catalogue)[0], config.catalogue)
    written = [*of(signed[0]), config.model_dump_json(), to_yaml(config), json.dumps(config.catalogue.identity())]
    written += [str(part.rejects.to_pylist()), str(part.accepted.to_pylist())]
    with pytest.raises(InputError) as raised:
        discover(TableSource(path=f"{url}x?X-Signature=hush3"))
    for text in (*written, str(raised.value)):
        assert "hush" not in text
    assert len(part.accepted) == len(part.rejects) == 1


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("https://user:pw@host:8080/a.csv?sig=1&x=2", "https://host:8080/a.csv?…"),
        ("s3://key:secret@bucket/a/*.csv", "s3://bucket/a/*.csv"),
        ("data/what?/a@b.csv", "data/what?/a@b.csv"),
    ],
)
def test_of_a_url_neither_user_nor_query_is_shown(path: str, expected: str) -> None:
    assert shown(path) == expected


def test_a_server_that_sends_neither_is_refused(tmp_path: Path, serve: Callable[..., str]) -> None:
    write(tmp_path / "items.csv", "item_id,name\n1,a\n", 1_700_000_000)
    url = serve()
    (file,) = discover(TableSource(path=url))
    with pytest.raises(InputError, match=f"{url}: .*neither ETag nor Last-Modified.*download it, or serve it with an"):
        identity(file)


def test_an_answer_that_is_no_file_is_told(serve: Callable[..., str]) -> None:
    with pytest.raises(InputError, match="cannot be opened: 404"):
        discover(TableSource(path=serve("ETag")))
