"""fetch_dataset: resumes, verifies and unpacks downloads from a local server."""

import hashlib
import http.server
import io
import tarfile
import threading
from typing import ClassVar

import pytest

from blemish.data import download
from blemish.data.download import Archive, fetch_dataset
from blemish.testing import raises


def archive_bytes():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("VOCdevkit/VOC2007/readme.txt")
        content = b"x" * 300_000
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


class Server(http.server.BaseHTTPRequestHandler):
    content = archive_bytes()
    break_after = None
    requested_offsets: ClassVar[list[int]] = []

    def do_GET(self):
        start = int((self.headers.get("Range") or "bytes=0-").split("=")[1].split("-")[0])
        type(self).requested_offsets.append(start)
        if start >= len(self.content):
            self.send_error(416)
            return
        body = self.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if self.break_after is None else body[: self.break_after])

    def log_message(self, *_):
        pass


@pytest.fixture
def served(monkeypatch):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/VOC.tar"
    digest = hashlib.md5(Server.content).hexdigest()
    monkeypatch.setitem(download.DATASETS, "voc2007", (Archive(url, digest, len(Server.content)),))
    monkeypatch.setattr(Server, "break_after", None)
    monkeypatch.setattr(Server, "requested_offsets", [])
    yield Server
    server.shutdown()
    server.server_close()
    thread.join()


def test_fetch_dataset_downloads_and_unpacks_once(served, tmp_path):
    calls = []
    folder = fetch_dataset("voc2007", tmp_path / "data", progress=lambda *a: calls.append(a))
    assert (folder / "VOCdevkit/VOC2007/readme.txt").stat().st_size == 300_000
    assert calls[-1] == ("VOC.tar", len(Server.content), len(Server.content))
    assert [p.name for p in folder.glob("*") if p.is_file()] == [".VOC.tar.done"]
    fetch_dataset("voc2007", folder)
    assert served.requested_offsets == [0]


def test_fetch_dataset_resumes_interrupted_download(served, tmp_path, monkeypatch):
    monkeypatch.setattr(Server, "break_after", 100_000)
    with raises("no-network.interrupted", "100,000", "307,200"):
        fetch_dataset("voc2007", tmp_path)
    monkeypatch.setattr(Server, "break_after", None)
    fetch_dataset("voc2007", tmp_path)
    assert served.requested_offsets == [0, 100_000]
    assert (tmp_path / "VOCdevkit/VOC2007/readme.txt").exists()


def test_fetch_dataset_uses_complete_partial_file(served, tmp_path):
    (tmp_path / "VOC.tar.part").write_bytes(Server.content)
    fetch_dataset("voc2007", tmp_path)
    assert (tmp_path / "VOCdevkit/VOC2007/readme.txt").exists()


def test_fetch_dataset_deletes_file_with_wrong_digest(served, tmp_path, monkeypatch):
    monkeypatch.setattr(Server, "content", Server.content[:-1] + b"!")
    with raises("bad-dataset.digest", "VOC.tar"):
        fetch_dataset("voc2007", tmp_path)
    assert not list(tmp_path.iterdir())


def test_fetch_dataset_without_server_or_name(tmp_path, monkeypatch):
    monkeypatch.setitem(download.DATASETS, "voc2007", (Archive("http://127.0.0.1:9/VOC.tar", "0", 1),))
    with raises("no-network.unreachable", "http://127.0.0.1:9/VOC.tar"):
        fetch_dataset("voc2007", tmp_path)
    with raises("unknown-name.data-set", "'voc2070'", "'voc2007'"):
        fetch_dataset("voc2070", tmp_path)


def test_unpack_refuses_path_outside_folder(tmp_path):
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("../evil.txt"))
    with raises("bad-dataset.archive", "evil.tar"):
        download._unpack(tmp_path / "evil.tar", tmp_path / "inside")
    assert not (tmp_path / "evil.txt").exists()
