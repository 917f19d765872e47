"""As much of the Hugging Face Hub as its client talks to, on this machine, for tests and for bench/."""

import base64
import hashlib
import http.server
import json
import re
import threading
from contextlib import contextmanager
from typing import Any

COMMIT = "c" * 40


class StubServer(http.server.ThreadingHTTPServer):
    """The state of the stub: what it serves, and what was asked of it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Stub)
        self.files: dict[str, bytes] = {}
        self.uploaded: dict[str, bytes] = {}
        self.etags: dict[str, str] = {}
        self.requests: list[tuple[str, str]] = []
        self.created: list[Any] = []
        self.commits = 0
        self.refusal: int | None = None
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Stub(http.server.BaseHTTPRequestHandler):
    """As much of the Hub as the client talks to; files live in `server.files`."""

    server: StubServer

    def log_message(self, *rest):
        pass

    def answer(self, body=b"", status=200, **headers):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", headers.get("Content_Length", str(len(data))))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def do_HEAD(self):
        self.do_GET()

    def refuses(self):
        """Answer with `server.refusal`, a status, where one is set."""
        if not self.server.refusal:
            return False
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer({"error": "no"}, status=self.server.refusal)
        return True

    def do_GET(self):
        self.server.requests.append((self.command, self.path))
        if self.refuses():
            return None
        files = self.server.files
        if match := re.fullmatch(r"/ada/cells/resolve/([^/]+)/(.+)", self.path):
            revision, name = match.groups()
            if revision not in ("main", "v2", COMMIT):
                return self.answer(status=404, X_Error_Code="RevisionNotFound")
            if name not in files:
                return self.answer(status=404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
            sha = self.server.etags.get(name) or hashlib.sha256(files[name]).hexdigest()
            return self.answer(files[name], ETag=f'"{sha}"', X_Repo_Commit=COMMIT)
        if re.fullmatch(r"/api/models/ada/cells/revision/(?!main|v2).*", self.path):
            return self.answer(status=404, X_Error_Code="RevisionNotFound")
        if self.path.startswith("/api/models/ada/cells"):
            siblings = [{"rfilename": n} for n in files]
            return self.answer({"id": "ada/cells", "sha": COMMIT, "siblings": siblings})
        return self.answer(status=404, X_Error_Code="RepoNotFound")

    def do_POST(self):
        self.server.requests.append((self.command, self.path))
        if self.refuses():
            return None
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            return self.answer({"url": f"{self.server.url}/ada/cells", "name": "ada/cells"})
        if self.path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if "/preupload/" in self.path:
            names = [f["path"] for f in json.loads(body)["files"]]
            modes = [
                {"path": n, "uploadMode": "lfs" if n.endswith(".onnx") else "regular", "shouldIgnore": False}
                for n in names
            ]
            return self.answer({"files": modes})
        if self.path.endswith("/info/lfs/objects/batch"):
            objects = [
                {
                    "oid": o["oid"],
                    "size": o["size"],
                    "actions": {"upload": {"href": f"{self.server.url}/lfs/{o['oid']}"}},
                }
                for o in json.loads(body)["objects"]
            ]
            return self.answer({"transfer": "basic", "objects": objects})
        if "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    self.server.files[value["path"]] = base64.b64decode(value["content"])
                if line["key"] == "lfsFile":
                    self.server.files[value["path"]] = self.server.uploaded[value["oid"]]
            self.server.commits += 1
            url = f"{self.server.url}/ada/cells/commit/{COMMIT}"
            return self.answer({"commitUrl": url, "commitOid": COMMIT, "success": True})
        return self.answer(status=404)

    def do_PUT(self):
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.uploaded[self.path.rpartition("/")[2]] = data
        return self.answer()


@contextmanager
def serving():
    """A stub in a thread of its own, empty; its address is `url`."""
    server = StubServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
