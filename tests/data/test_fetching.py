"""Downloads: resumed, checked, unpacked, against a server on this machine."""

import hashlib
import http.server
import io
import tarfile
import threading
from typing import ClassVar

import pytest

from blemish.data import download
from blemish.data.download import Archive, fetch
from blemish.errors import BadDataset, NoNetwork, UnknownName


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
    asked: ClassVar[list[int]] = []

    def do_GET(self):
        start = int((self.headers.get("Range") or "bytes=0-").split("=")[1].split("-")[0])
        type(self).asked.append(start)
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
    monkeypatch.setitem(download.SETS, "voc2007", (Archive(url, digest, len(Server.content)),))
    monkeypatch.setattr(Server, "break_after", None)
    monkeypatch.setattr(Server, "asked", [])
    yield Server
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_archive_is_fetched_and_unpacked_once(served, tmp_path):
    told = []
    folder = fetch("voc2007", tmp_path / "data", progress=lambda *a: told.append(a))
    assert (folder / "VOCdevkit/VOC2007/readme.txt").stat().st_size == 300_000
    assert told[-1] == ("VOC.tar", len(Server.content), len(Server.content))
    assert [p.name for p in folder.glob("*") if p.is_file()] == [".VOC.tar.done"]
    fetch("voc2007", folder)
    assert served.asked == [0]


def test_a_download_that_was_broken_off_goes_on(served, tmp_path, monkeypatch):
    monkeypatch.setattr(Server, "break_after", 100_000)
    with pytest.raises(NoNetwork, match="goes on"):
        fetch("voc2007", tmp_path)
    monkeypatch.setattr(Server, "break_after", None)
    fetch("voc2007", tmp_path)
    assert served.asked == [0, 100_000]
    assert (tmp_path / "VOCdevkit/VOC2007/readme.txt").exists()


def test_what_is_all_there_is_not_fetched_again(served, tmp_path):
    (tmp_path / "VOC.tar.part").write_bytes(Server.content)
    fetch("voc2007", tmp_path)
    assert (tmp_path / "VOCdevkit/VOC2007/readme.txt").exists()


def test_a_wrong_digest_is_refused_and_deleted(served, tmp_path, monkeypatch):
    monkeypatch.setattr(Server, "content", Server.content[:-1] + b"!")
    with pytest.raises(BadDataset, match="digest"):
        fetch("voc2007", tmp_path)
    assert not list(tmp_path.iterdir())


def test_no_server_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(download.SETS, "voc2007", (Archive("http://127.0.0.1:9/VOC.tar", "0", 1),))
    with pytest.raises(NoNetwork, match="connect to the internet"):
        fetch("voc2007", tmp_path)
    with pytest.raises(UnknownName, match="did you mean 'voc2007'"):
        fetch("voc2070", tmp_path)


def test_an_archive_cannot_write_outside_its_folder(tmp_path):
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("../evil.txt"))
    with pytest.raises(BadDataset, match="cannot be unpacked"):
        download._unpack(tmp_path / "evil.tar", tmp_path / "inside")
    assert not (tmp_path / "evil.txt").exists()
