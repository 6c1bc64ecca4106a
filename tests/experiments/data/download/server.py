"""A server on loopback that breaks off, ignores ranges, or refuses."""

import hashlib
import http.server
import re
import threading

from experiments.data.download.catalogue import RemoteFile

CONTENT = bytes(range(256)) * 4096  # 1 MiB


class Server:
    """Serves `content` at any path, and notes the ranges asked for."""

    def __init__(self, content=CONTENT, ranges=True, cut=(), status=None):
        self.content, self.ranges, self.cut, self.status, self.asked = content, ranges, list(cut), status, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                wanted = self.headers.get("Range")
                outer.asked.append(wanted)
                if outer.status:
                    self.send_error(outer.status)
                    return
                start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and outer.ranges else 0
                body = outer.content[start:]
                if start:
                    self.send_response(206)
                    last = len(outer.content) - 1
                    self.send_header("Content-Range", f"bytes {start}-{last}/{len(outer.content)}")
                else:
                    self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if outer.cut:  # the connection ends after so many bytes
                    body = body[: outer.cut.pop(0)]
                    self.close_connection = True
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def file(self, content=CONTENT, name="data.bin", **changes):
        url = f"http://127.0.0.1:{self.server.server_port}/{name}"
        return RemoteFile(
            **{"url": url, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), **changes}
        )
