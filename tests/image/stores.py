"""Places to read from that tell what was read: a counting store and a web server."""

from __future__ import annotations

import contextlib
import functools
import re
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zarr.storage import WrapperStore

if TYPE_CHECKING:
    from collections.abc import Iterator


class CountingStore(WrapperStore[Any]):
    """A zarr store that notes every key it is asked for, and how many bytes it gave."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self.read: dict[str, int] = {}

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        found = await super().get(key, prototype, byte_range)
        self.read[key] = self.read.get(key, 0) + (len(found) if found is not None else 0)
        return found

    @property
    def chunks(self) -> set[str]:
        """The keys of the chunks that were asked for."""
        return {key for key in self.read if "zarr.json" not in key and "/.z" not in key}


class _Handler(SimpleHTTPRequestHandler):
    """Serves a folder, parts of files (RFC 9110, single ranges) included."""

    requests: list[str]

    def do_GET(self) -> None:
        self.requests.append(self.path)
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if asked is None or not path.is_file():
            super().do_GET()
            return
        data = path.read_bytes()
        start = int(asked[1]) if asked[1] else len(data) - int(asked[2])
        stop = int(asked[2]) + 1 if asked[1] and asked[2] else len(data)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data[start:stop])))
        self.end_headers()
        self.wfile.write(data[start:stop])

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve a folder on this machine; yields its URL and the paths that are asked for."""
    requests: list[str] = []
    handler = type("Handler", (_Handler,), {"requests": requests})
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=folder))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
