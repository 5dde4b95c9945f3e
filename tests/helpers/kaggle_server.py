"""A loopback server that speaks to Kaggle's unmodified client: data sets and competitions as zip archives."""

import io
import json
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class LoopbackKaggle(ThreadingHTTPServer):
    """
    Serves these files as every data set and competition.

    `status` is the response to all calls, if it is set. `cut_after` cuts the next download off after so many bytes.
    """

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]):
        super().__init__(("127.0.0.1", 0), Handler)
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            for name, content in files.items():
                file.writestr(name, content)
        self.archive, self.status, self.cut_after = archive.getvalue(), None, None
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def environment(self, home) -> dict[str, str]:
        """The client knows one local address, http://localhost, which it reaches through this server as its proxy."""
        return {
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "http_proxy": f"http://127.0.0.1:{self.server_port}",
            "NO_PROXY": "",
            "no_proxy": "",
            "HOME": str(home),
            "KAGGLEHUB_CACHE": str(home / "kaggle"),
        }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        call = urlsplit(self.path).path.rpartition("/")[2]
        if self.server.status is not None:
            return self.answer(self.server.status, b'{"code": 0, "message": "refused"}')
        if call == "GetDataset":
            return self.answer(200, json.dumps({"id": 1, "ref": "owner/name", "currentVersionNumber": 3}).encode())
        return self.answer(302, Location=f"http://{self.headers['Host']}/archive.zip")

    def do_GET(self):
        cut, self.server.cut_after = self.server.cut_after, None
        self.answer(200, self.server.archive, cut)

    def answer(self, status: int, body: bytes = b"", cut_after: int | None = None, **headers: str):
        self.send_response(status)
        kind = "application/json" if body[:1] == b"{" else "application/zip"
        for name, value in {"Content-Length": str(len(body)), "Content-Type": kind, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:cut_after])
        self.close_connection = cut_after is not None

    def log_message(self, *_):
        """Nothing on stderr."""
