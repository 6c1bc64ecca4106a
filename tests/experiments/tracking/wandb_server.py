"""A W&B server on the loopback: just enough of its interface to take runs and artifacts, and to be asked for them."""

import base64
import gzip
import http.server
import json
import re
import sys
import threading
from typing import Any

PROJECT = {"id": "p", "name": "iounet", "entity": {"id": "e", "name": "me"}}


class WandbServer:
    """Runs and artifacts as a server would hold them.

    Attributes:
        runs: id to name, group, job type, config, tags, history (rows by line number) and uploaded files.
        artifacts: per version its name, type, aliases, run and the files uploaded for it.
        used: (run id, artifact name) of every lineage edge, in order.
        refuse: answer every request with 401, as for a wrong key.
        keys: API keys seen.
    """

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.artifacts: list[dict[str, Any]] = []
        self.used: list[tuple[str, str]] = []
        self.operations: list[str] = []
        self.keys: set[str] = set()
        self.refuse = False
        self.lock = threading.Lock()

    def __enter__(self) -> "WandbServer":
        handler = type("Handler", (_Handler,), {"backend": self})
        self._http = _Quiet(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def history(self, run_id: str) -> list[dict[str, Any]]:
        """Rows of a run in the order of their lines."""
        return [row for _, row in sorted(self.runs[run_id]["history"].items())]

    def answer(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The `data` of a GraphQL operation; empty for one that is not known."""
        self.operations.append(operation)
        given = variables.get("input", variables)
        match operation:
            case "Viewer":
                viewer = {"id": "u", "entity": "me", "username": "me", "email": "", "flags": "{}"}
                return {"viewer": {**viewer, "teams": {"edges": []}}}
            case "ServerFeaturesQuery":
                return {"serverInfo": {"features": []}}
            case "ArtifactType":
                return {"project": {"artifact": None}}
            case "RunResumeStatus":
                run = self.runs.get(variables["name"])
                return {"model": {**PROJECT, "bucket": run and self._bucket(variables["name"])}}
            case "UpsertBucket":
                return {"upsertBucket": self._upsert(variables)}
            case "CreateRunFiles":
                files = [
                    {"name": name, "uploadUrl": f"{self.url}/run/{given['run']}/{name}"} for name in given["files"]
                ]
                return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}
            case "CreateArtifact":
                kind = {"type": given["artifactTypeName"], "name": given["artifactCollectionName"]}
                aliases = [alias["alias"] for alias in given["aliases"]]
                self.artifacts.append({**kind, "aliases": aliases, "run": given["runName"], "files": {}})
                node = {"id": str(len(self.artifacts) - 1), "state": "PENDING"}
                return {"createArtifact": {"artifact": {**node, "artifactSequence": {"latestArtifact": None}}}}
            case "CreateArtifactFiles":
                nodes = [
                    {
                        "storagePath": spec["name"],
                        "uploadUrl": f"{self.url}/artifact/{spec['artifactID']}/{spec['name']}",
                        "uploadHeaders": [],
                        "uploadMultipartUrls": None,
                        "artifact": {"id": spec["artifactID"]},
                    }
                    for spec in given["artifactFiles"]
                ]
                return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}
            case "CreateArtifactManifest" | "UpdateArtifactManifest":
                file = {"id": "f", "uploadUrl": f"{self.url}/manifest", "uploadHeaders": []}
                name = operation[0].lower() + operation[1:]
                return {name: {"artifactManifest": {"id": "m", "file": file}}}
            case "CommitArtifact":
                return {"commitArtifact": {"artifact": {"id": variables["artifactID"], "digest": "d"}}}
        return {}

    def _upsert(self, variables: dict[str, Any]) -> dict[str, Any]:
        name, inserted = variables["name"], variables["name"] not in self.runs
        run = self.runs.setdefault(name, {"history": {}, "files": {}, "config": {}, "summary": {}})
        for key in ("displayName", "groupName", "jobType", "tags"):
            run[key] = variables.get(key) or run.get(key)
        for key, item in json.loads(variables.get("config") or "{}").items():
            run["config"][key] = item["value"]
        return {"bucket": self._bucket(name), "inserted": inserted}

    def _bucket(self, name: str) -> dict[str, Any]:
        run = self.runs[name]
        history = [json.dumps(row) for row in self.history(name)]
        config = {key: {"value": value} for key, value in run["config"].items()}
        return {
            "id": name,
            "name": name,
            "displayName": run["displayName"],
            "description": None,
            "sweepName": None,
            "tags": run["tags"] or [],
            "notes": None,
            "config": json.dumps(config),
            "wandbConfig": json.dumps({"t": 1}),  # what tells a run that began from one that was only made
            "summaryMetrics": json.dumps(run["summary"]),
            "historyTail": json.dumps(history[-1:]),
            "eventsTail": "[]",
            "historyLineCount": len(history),
            "eventsLineCount": 0,
            "logLineCount": 0,
            "project": PROJECT,
        }

    def stream(self, run_id: str, files: dict[str, Any]) -> None:
        """Lines of a run's history, each at its place: what is sent again replaces what was there."""
        for name, chunk in files.items():
            for index, line in enumerate(chunk.get("content", [])):
                if name == "wandb-history.jsonl":
                    self.runs[run_id]["history"][chunk["offset"] + index] = json.loads(line)
                elif name == "wandb-summary.json":
                    self.runs[run_id]["summary"] = json.loads(line)

    def upload(self, path: str, body: bytes) -> None:
        """A file of a run or of an artifact."""
        kind, owner, name = (*path.strip("/").split("/", 2), "", "")[:3]
        if kind == "run":
            self.runs[owner]["files"][name] = body
        elif kind == "artifact":
            self.artifacts[int(owner)]["files"][name] = body


class _Quiet(http.server.ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # W&B's processes drop their connections
            raise


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    backend: WandbServer

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        body = self._body()
        authorization = self.headers.get("Authorization", "")
        if authorization.startswith("Basic "):
            self.backend.keys.add(base64.b64decode(authorization[6:]).decode().split(":")[-1])
        if self.backend.refuse:
            return self._reply(401, {"errors": [{"message": "user is not logged in"}]})
        with self.backend.lock:
            if self.path.startswith("/graphql"):
                request = json.loads(body)
                (operation,) = re.findall(r"(?:query|mutation)\s+(\w+)", request["query"])
                return self._reply(200, {"data": self.backend.answer(operation, request.get("variables") or {})})
            if match := re.fullmatch(r"/files/\w+/\w+/(\w+)/file_stream", self.path):
                self.backend.stream(match[1], json.loads(body).get("files") or {})
                return self._reply(200, {})
            self.backend.upload(self.path, body)
        return self._reply(200, {})

    do_GET = do_PUT = do_POST  # noqa: N815

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _reply(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
