"""What happened in a scene, step by step: told by everybody in it, in one file, on one clock.

The code that is watched knows nothing of it: requests are seen by a middleware, statements by the engine's
events, questions to the bank by a transport.
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

REQUEST = "HTTP_X_LAB_REQUEST"
"""The lab's browser numbers the presses of the button, so that each has a worker of its own in the picture."""


@dataclass(frozen=True)
class Step:
    """`actor` does something, towards `to` where it is a message; `at` in seconds from the start of the scene.

    `kind`: "" or "money" (the bank took it), "killed", "lost" (a message that never arrived), "wrote" (committed).
    """

    at: float
    actor: str
    what: str
    to: str = ""
    kind: str = ""
    pid: int = 0


class Trace:
    """The file that everybody writes to. Appending a line is atomic, and outlives the process that is killed."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._path = path
        self._start = monotonic()
        self._me = threading.local()

    def say(self, actor: str, what: str, to: str = "", kind: str = "") -> None:
        """One more step, by whatever thread of whatever process."""
        step = Step(round(monotonic() - self._start, 4), actor, what, to, kind, os.getpid())
        os.write(self._file, (json.dumps(asdict(step)) + "\n").encode())

    def steps(self) -> list[Step]:
        """All steps so far, in the order of the clock."""
        lines = self._path.read_text().splitlines()
        return sorted((Step(**json.loads(line)) for line in lines), key=lambda step: step.at)

    @property
    def me(self) -> str:
        """Who this thread is in the picture, "" where nobody watches it."""
        return getattr(self._me, "name", "")

    @me.setter
    def me(self, name: str) -> None:
        self._me.name = name

    def watch_requests(self, application: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
        """WSGI middleware: the request with number n is worker n's."""

        def watched(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            number = environ.get(REQUEST, "")
            self.me = f"worker {number}" if number else ""
            if not self.me:
                return application(environ, start_response)
            self.say(SHOPPER, f"{environ['REQUEST_METHOD']} {_short(environ['PATH_INFO'])}", to=self.me)

            def answered(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
                where = next((value for name, value in headers if name == "Location"), "")
                self.say(self.me, f"{status[:3]} {_short(where)}".strip(), to=SHOPPER)
                return start_response(status, headers, *rest)

            return application(environ, answered)

        return watched

    def watch_statements(self, engine: Engine) -> None:
        """What the watched threads ask of their database, and when they commit."""

        @event.listens_for(engine, "before_cursor_execute")
        def _begins(_conn: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            if self.me and statement == "BEGIN IMMEDIATE":
                self.say(self.me, "BEGIN", to=DATABASE)

        @event.listens_for(engine, "after_cursor_execute")
        def _executed(_conn: Any, cursor: Any, statement: str, *_rest: Any) -> None:
            words = _statement(statement)
            if self.me and words:
                # With RETURNING, SQLite counts only what was fetched by then: nothing.
                counted = cursor.rowcount >= 0 and "RETURNING" not in statement
                rows = f" → {cursor.rowcount} row{'s' * (cursor.rowcount != 1)}" if counted else ""
                self.say(self.me, words + rows, to=DATABASE)

        @event.listens_for(engine, "handle_error")
        def _refused(context: Any) -> None:
            if self.me:
                why = str(context.original_exception).split("(")[0]
                self.say(DATABASE, f"refuses: {why}", to=self.me)

        @event.listens_for(engine, "commit")
        def _committed(connection: Any) -> None:
            if self.me and not connection.get_execution_options().get("reading"):
                self.say(self.me, "COMMIT", to=DATABASE, kind="wrote")

        @event.listens_for(engine, "rollback")
        def _rolled_back(connection: Any) -> None:
            if self.me and not connection.get_execution_options().get("reading"):
                self.say(self.me, "ROLLBACK", to=DATABASE)


class WatchedTransport(httpx.BaseTransport):
    """The way to the bank, with every question and answer told to the trace."""

    def __init__(self, way: httpx.BaseTransport, trace: Trace) -> None:
        self._way = way
        self._trace = trace

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Pass it on. Raises what the way raises: an answer that never came."""
        me = self._trace.me or "shop"
        self._trace.say(me, _question(request), to=BANK)
        try:
            response = self._way.handle_request(request)
        except Exception as error:
            self._trace.say(BANK, _silence(error), to=me, kind="lost")
            raise
        self._trace.say(BANK, f"answers {response.status_code}", to=me)
        return response


def key_words(key: str) -> str:
    """A key as the picture shows it: enough to tell two apart."""
    return f"key {key.replace('-', '')[:6]}"


def _question(request: httpx.Request) -> str:
    path = request.url.path
    if request.method == "GET":
        return f"what became of {key_words(path.rsplit('/', 1)[1])}?"
    if path.endswith("/cancel"):
        return f"never take money under {key_words(path.split('/')[-2])}"
    key = json.loads(request.content)["key"]
    return f"charge, {key_words(key)}"


def _silence(error: Exception) -> str:
    return "no answer in time" if "imeout" in type(error).__name__ else "the connection breaks, no answer"


def _statement(statement: str) -> str:
    """A write in few words, and a look that searches for a token; "" for everything else."""
    text = " ".join(statement.split())
    if found := re.match(r"INSERT INTO (\w+) \((\w+)", text):
        conflict = " ON CONFLICT DO NOTHING" if "ON CONFLICT" in text else ""
        return f"INSERT INTO {found[1]} ({found[2]}, …){conflict}"
    if found := re.match(r"UPDATE (\w+) SET (\w+) ?=.* WHERE (.*?)( RETURNING .*)?$", text):
        return f"UPDATE {found[1]} SET {found[2]}=… WHERE {_condition(found[1], found[3])}"  # Words for people.
    if found := re.match(r"SELECT .* FROM (\w+) WHERE (.*token.*?)( ORDER .*)?$", text):
        return f"SELECT … FROM {found[1]} WHERE {_condition(found[1], found[2])}"  # Words for people.
    return text if text.startswith("DELETE") else ""


def _condition(table: str, text: str) -> str:
    """The WHERE part without the table's name, cut after its first two comparisons."""
    text = re.sub(r"\(strftime.*", "now", text.replace(f"{table}.", ""))
    parts = re.split(r" (AND|OR) ", text)
    return " ".join(parts[:3]) + (" …" if len(parts) > 3 else "")


def _short(path: str) -> str:
    """A path without origin, its unguessable part cut short."""
    path = re.sub(r"^https?://[^/]+", "", path)
    return re.sub(r"([0-9a-f]{6})[0-9a-f]{2}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", r"\1…", path)
