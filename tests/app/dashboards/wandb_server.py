"""A W&B server on this machine: as much of the real one's API as a run and `wandb sync` need."""

import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

API_KEY = "0123456789" * 4
ENTITY = "tester"
HISTORY, EVENTS, SUMMARY = "wandb-history.jsonl", "wandb-events.jsonl", "wandb-summary.json"
Health = Literal["up", "closed", "error", "busy", "hung"]
GZIP = b"\x1f\x8b"
STATUS = {"error": 500, "busy": 429}


@dataclass
class ReceivedRun:
    """What the server holds of one run."""

    run_id: str
    project: str
    name: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, dict[int, str]] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    exit_codes: list[int] = field(default_factory=list)

    @property
    def rows(self) -> dict[int, dict[str, Any]]:
        """The history: a row by its line's number."""
        return {number: json.loads(line) for number, line in sorted(self.lines.get(HISTORY, {}).items())}

    @property
    def summary(self) -> dict[str, Any]:
        """The summary as it was sent last."""
        lines = self.lines.get(SUMMARY, {})
        return json.loads(lines[max(lines)]) if lines else {}

    def values(self, metric: str) -> list[tuple[int, float]]:
        """A chart's points, in the order of the lines: (trainer/global_step, value)."""
        return [(row["trainer/global_step"], row[metric]) for row in self.rows.values() if metric in row]

    def receive(self, request: dict[str, Any]) -> None:
        """Stores one file_stream request; a line that comes again takes the place of the old one."""
        for name, chunk in (request.get("files") or {}).items():
            held = self.lines.setdefault(name, {})
            held.update({chunk["offset"] + number: line for number, line in enumerate(chunk["content"])})
        if request.get("complete"):
            self.exit_codes.append(request["exitcode"])

    def resume_status(self) -> dict[str, Any]:
        """What a client is told that asks whether it may resume this run."""
        history, events = self.lines.get(HISTORY, {}), self.lines.get(EVENTS, {})
        return self.bucket() | {
            "summaryMetrics": json.dumps(self.summary),
            "logLineCount": len(self.lines.get("output.log", {})),
            "eventsLineCount": len(events),
            "historyTail": json.dumps([history[number] for number in sorted(history)[-1:]]),
            "eventsTail": json.dumps([events[number] for number in sorted(events)[-1:]]),
            "tags": [],
            "notes": None,
            "wandbConfig": json.dumps({"t": 1}),
        }

    def bucket(self) -> dict[str, Any]:
        """The run as GraphQL shows it."""
        return {
            "id": f"storage-{self.run_id}",
            "name": self.run_id,
            "displayName": self.name,
            "description": None,
            "sweepName": None,
            "config": json.dumps(self.config),
            "historyLineCount": len(self.lines.get(HISTORY, {})),
            "project": {"id": "project", "name": self.project, "entity": {"id": "entity", "name": ENTITY}},
        }


class WandbServer:
    """The server and its switch.

    Attributes:
        runs: What was received, by run id.
        url: For WANDB_BASE_URL; the port stays the same while the server is closed.
    """

    def __init__(self) -> None:
        self.runs: dict[str, ReceivedRun] = {}
        self.lock = threading.Lock()
        self.health: Health = "closed"
        self.recovered = threading.Event()
        self._listener: _Listener | None = None
        self._port = 0
        self.become("up")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def become(self, health: Health) -> None:
        """Answers from now on in this way; "hung" takes requests and never answers them."""
        before, self.health = self.health, health
        if health == "hung":
            self.recovered.clear()
        else:
            self.recovered.set()
        if health == "closed" and self._listener is not None:
            self._listener.shutdown()
            self._listener.server_close()
            self._listener = None
        elif before == "closed" and health != "closed":
            self._listener = _Listener(self, self._port)
            self._port = self._listener.server_address[1]
            threading.Thread(target=self._listener.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The data of one GraphQL request."""
        asked = re.search(r"(?:query|mutation)\s+(\w+)", query)
        name = asked.group(1) if asked else ""
        if name == "UpsertBucket":
            return {"upsertBucket": self._upsert(variables)}
        if name == "RunResumeStatus":
            held = self.runs.get(variables["name"])
            entity = {"id": "entity", "name": ENTITY}
            bucket = held.resume_status() if held is not None else None
            return {"model": {"id": "model", "name": variables.get("project"), "entity": entity, "bucket": bucket}}
        if name == "CreateRunFiles":
            files = [{"name": file, "uploadUrl": f"{self.url}/upload/{file}"} for file in variables["files"]]
            self.runs[variables["run"]].files.update(variables["files"])
            return {"createRunFiles": {"runID": variables["run"], "uploadHeaders": [], "files": files}}
        if "viewer" in query:
            flags = json.dumps({"code_saving_enabled": False})
            teams: dict[str, Any] = {"edges": [{"node": {"name": ENTITY}}]}
            person = {"id": "user", "entity": ENTITY, "username": ENTITY, "email": "", "flags": flags, "teams": teams}
            return {"viewer": person, "serverInfo": {"features": []}}
        if "serverInfo" in query:
            return {"serverInfo": {"features": [], "cliVersionInfo": {}, "latestLocalVersionInfo": None}}
        return {}

    def _upsert(self, variables: dict[str, Any]) -> dict[str, Any]:
        run_id = variables.get("name") or str(variables["id"]).removeprefix("storage-")
        inserted = run_id not in self.runs
        run = self.runs.setdefault(run_id, ReceivedRun(run_id, variables.get("project") or ""))
        run.name = variables.get("displayName") or run.name
        if variables.get("config"):
            run.config = json.loads(variables["config"])
        return {"bucket": run.bucket(), "inserted": inserted}


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, wandb: WandbServer, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.wandb = wandb


class _Handler(BaseHTTPRequestHandler):
    server: _Listener

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self._is_ill():
            return
        if self.path.startswith("/files/") or self.path == "/graphql":
            self._receive(json.loads(gzip.decompress(body) if body.startswith(GZIP) else body))
        else:  # how W&B's own program fares
            self._send({})

    def _receive(self, request: dict[str, Any]) -> None:
        with self.server.wandb.lock:
            if stream := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path):
                self.server.wandb.runs[stream.group(1)].receive(request)
                self._send({})
            else:
                self._send({"data": self.server.wandb.answer(request["query"], request.get("variables") or {})})

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self._is_ill():
            self._send({})

    def do_GET(self) -> None:
        if not self._is_ill():
            self._send({})

    def _is_ill(self) -> bool:
        health = self.server.wandb.health
        if health == "hung":
            self.server.wandb.recovered.wait()  # and then closes the connection
        elif health in STATUS:
            self._send({"errors": ["out of order"]}, STATUS[health])
        return health != "up"

    def _send(self, answer: dict[str, Any], status: int = 200) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """The tests read stderr."""


@contextmanager
def wandb_server() -> Iterator[WandbServer]:
    """A healthy server, closed at the end."""
    server = WandbServer()
    try:
        yield server
    finally:
        server.become("closed")
