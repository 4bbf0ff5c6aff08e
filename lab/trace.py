"""The steps of a scene. All processes of the scene add to one file, with times from one clock.

The observed code is not changed: a WSGI middleware sees the requests, events of the engine see the statements, and
a transport sees the questions to the bank.
"""

import json
import os
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
from sqlalchemy import Engine, event

SHOPPER, DATABASE, BANK, RECOVERY = "shopper", "database", "bank", "recovery"

REQUEST_NUMBER = "HTTP_X_LAB_REQUEST"
"""The key in the WSGI environment for the browser's request number. Each number is one worker in the picture."""


@dataclass(frozen=True)
class Step:
    """`actor` does something; `to` is the receiver if it is a message. `at` is in seconds since the scene began.

    `kind` is "", "money" (the bank took it), "killed", "lost" (a message that never arrived) or "wrote" (committed).
    """

    at: float
    actor: str
    text: str
    to: str = ""
    kind: str = ""
    pid: int = 0


class Trace:
    """The file with all steps. Appending a line is atomic, and the file survives a killed process."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._path = path
        self._start = monotonic()
        self._current = threading.local()

    def add(self, actor: str, text: str, to: str = "", kind: str = "") -> None:
        """Append a step. Any thread of any process may call this."""
        step = Step(round(monotonic() - self._start, 4), actor, text, to, kind, os.getpid())
        os.write(self._file, (json.dumps(asdict(step)) + "\n").encode())

    def steps(self) -> list[Step]:
        """Return all steps so far, ordered by time."""
        lines = self._path.read_text().splitlines()
        return sorted((Step(**json.loads(line)) for line in lines), key=lambda step: step.at)

    @property
    def actor(self) -> str:
        """The actor that this thread is in the picture; "" if the thread is not traced."""
        return getattr(self._current, "actor", "")

    @actor.setter
    def actor(self, name: str) -> None:
        self._current.actor = name

    def trace_requests(self, application: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
        """WSGI middleware: trace the request with number n as a message to "worker n"."""

        def traced(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            number = environ.get(REQUEST_NUMBER, "")
            self.actor = f"worker {number}" if number else ""
            if not self.actor:
                return application(environ, start_response)
            self.add(SHOPPER, f"{environ['REQUEST_METHOD']} {_short(environ['PATH_INFO'])}", to=self.actor)

            def traced_start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
                location = next((value for name, value in headers if name == "Location"), "")
                self.add(self.actor, f"{status[:3]} {_short(location)}".strip(), to=SHOPPER)
                return start_response(status, headers, *rest)

            return application(environ, traced_start)

        return traced

    def trace_statements(self, engine: Engine) -> None:
        """Trace the statements, commits and rollbacks of traced threads."""

        @event.listens_for(engine, "before_cursor_execute")
        def _begins(_conn: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            if self.actor and statement == "BEGIN IMMEDIATE":
                self.add(self.actor, "BEGIN", to=DATABASE)

        @event.listens_for(engine, "after_cursor_execute")
        def _executed(_conn: Any, cursor: Any, statement: str, *_rest: Any) -> None:
            text = _statement(statement)
            if self.actor and text:
                # With RETURNING, SQLite's row count is the number of rows fetched so far, which is 0 here.
                counted = cursor.rowcount >= 0 and "RETURNING" not in statement
                rows = f" → {cursor.rowcount} row{'s' * (cursor.rowcount != 1)}" if counted else ""
                self.add(self.actor, text + rows, to=DATABASE)

        @event.listens_for(engine, "handle_error")
        def _refused(context: Any) -> None:
            if self.actor:
                reason = str(context.original_exception).split("(")[0]
                self.add(DATABASE, f"refuses: {reason}", to=self.actor)

        @event.listens_for(engine, "commit")
        def _committed(connection: Any) -> None:
            if self.actor and not connection.get_execution_options().get("reading"):
                self.add(self.actor, "COMMIT", to=DATABASE, kind="wrote")

        @event.listens_for(engine, "rollback")
        def _rolled_back(connection: Any) -> None:
            if self.actor and not connection.get_execution_options().get("reading"):
                self.add(self.actor, "ROLLBACK", to=DATABASE)


class TracedTransport(httpx.BaseTransport):
    """The transport to the bank, which adds every question and answer to the trace."""

    def __init__(self, transport: httpx.BaseTransport, trace: Trace) -> None:
        self._transport = transport
        self._trace = trace

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request. Raises what the underlying transport raises."""
        actor = self._trace.actor or "shop"
        self._trace.add(actor, _question(request), to=BANK)
        try:
            response = self._transport.handle_request(request)
        except Exception as error:
            self._trace.add(BANK, _silence(error), to=actor, kind="lost")
            raise
        self._trace.add(BANK, f"answers {response.status_code}", to=actor)
        return response


def short_key(key: str) -> str:
    """Return the first characters of a key, enough to distinguish two keys in a picture."""
    return f"key {key.replace('-', '')[:6]}"


def _question(request: httpx.Request) -> str:
    path = request.url.path
    if request.method == "GET":
        return f"what became of {short_key(path.rsplit('/', 1)[1])}?"
    if path.endswith("/cancel"):
        return f"never take money under {short_key(path.split('/')[-2])}"
    key = json.loads(request.content)["key"]
    return f"charge, {short_key(key)}"


def _silence(error: Exception) -> str:
    return "no answer in time" if "imeout" in type(error).__name__ else "the connection breaks, no answer"


def _statement(statement: str) -> str:
    """Return a short form of a write, or of a SELECT that searches for a token; "" for any other statement."""
    text = " ".join(statement.split())
    if found := re.match(r"INSERT INTO (\w+) \((\w+)", text):
        conflict = " ON CONFLICT DO NOTHING" if "ON CONFLICT" in text else ""
        return f"INSERT INTO {found[1]} ({found[2]}, …){conflict}"
    if found := re.match(r"UPDATE (\w+) SET (\w+) ?=.* WHERE (.*?)( RETURNING .*)?$", text):
        return f"UPDATE {found[1]} SET {found[2]}=… WHERE {_condition(found[1], found[3])}"
    if found := re.match(r"SELECT .* FROM (\w+) WHERE (.*token.*?)( ORDER .*)?$", text):
        return f"SELECT … FROM {found[1]} WHERE {_condition(found[1], found[2])}"
    return text if text.startswith("DELETE") else ""


def _condition(table: str, text: str) -> str:
    """Return the condition after WHERE without the table's name, cut after its second comparison."""
    text = re.sub(r"\(strftime.*", "now", text.replace(f"{table}.", ""))
    parts = re.split(r" (AND|OR) ", text)
    return " ".join(parts[:3]) + (" …" if len(parts) > 3 else "")


def _short(path: str) -> str:
    """Return the path without its origin, with ids cut to six characters."""
    path = re.sub(r"^https?://[^/]+", "", path)
    return re.sub(r"([0-9a-f]{6})[0-9a-f]{2}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", r"\1…", path)
