"""The Lab's bank: the sandbox bank on loopback, with a database of its own.

It can lose or delay its responses after it took the money.
"""

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.engine import Connection

from lab.serving import Server
from lab.trace import BANK, Trace, short_key
from sandbox_bank import create_bank
from sandbox_bank.statement import statement

Fault = Callable[[int], None]
"""Called with the number of the request for money, after the bank has decided it and before the response is sent.

It may wait. If it raises ConnectionResetError, the response is lost.
"""

LONGEST_HOLD = 30.0
"""Seconds that a response is held back at most, which is longer than any shop of the Lab waits."""


def lose_first(number: int) -> None:
    """Fault: lose the response to the first request. The money was taken."""
    if number == 1:
        raise ConnectionResetError


class Gate:
    """Holds responses back until all expected requests have arrived at the bank, or have ended without it.

    If requests can be at the bank at the same moment, the gate makes sure that they are, so that no result depends on
    luck. If none has arrived for `quiet` seconds, the missing ones are waiting for each other in the shop, and the
    gate opens.
    """

    def __init__(self, expected: int, quiet: float) -> None:
        self._missing = expected
        self._quiet = quiet
        self._change = threading.Condition()

    def arrived(self) -> None:
        """Count one of the expected requests: it is at the bank, or it ended without the bank."""
        with self._change:
            self._missing -= 1
            self._change.notify_all()

    def hold(self, _number: int) -> None:
        """Fault: count this request, then wait for the others."""
        self.arrived()
        with self._change:
            while self._missing > 0 and self._change.wait(self._quiet):
                pass


class LabBank:
    """The bank of one scene. `fault` is applied to its responses to requests for money."""

    def __init__(self, folder: Path, trace: Trace) -> None:
        self._bank = create_bank(f"sqlite:///{folder}/bank/bank.sqlite", hold_seconds=LONGEST_HOLD)
        self._engine: Engine = self._bank.config["BOOKS"]
        self._trace = trace
        self._requests = 0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self.fault: Fault = lambda number: None
        self._trace_charges()
        self._server = Server(self._application)
        self.url = self._server.url

    def start(self) -> None:
        """Serve in threads of this process. Call it after all processes of the scene have been forked."""
        self._server.start()

    def stop(self) -> None:
        """Release the responses that are held back, and stop."""
        self._stopped.set()
        self._server.stop()
        self._engine.dispose()

    def never_answer(self, _number: int) -> None:
        """Fault: hold the response back until the shop has stopped waiting, then lose it."""
        self._stopped.wait(LONGEST_HOLD)
        raise ConnectionResetError

    def charges(self) -> int:
        """Return how often money was taken, according to the bank's statement."""
        return sum(movement.kind == "charge" for movement in statement(self._engine))

    def _application(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if (environ["REQUEST_METHOD"], environ["PATH_INFO"]) != ("POST", "/v1/charges"):
            return self._bank(environ, start_response)
        status_and_headers: list[Any] = []

        def hold_start(*args: Any) -> Callable[[bytes], object]:
            status_and_headers.extend(args)
            return status_and_headers.append

        body = b"".join(self._bank(environ, hold_start))
        with self._lock:
            self._requests += 1
            number = self._requests
        self.fault(number)
        start_response(*status_and_headers)
        return [body]

    def _trace_charges(self) -> None:
        @event.listens_for(self._engine, "after_cursor_execute")
        def _executed(_conn: Connection, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
            if statement.startswith("INSERT INTO bank_account_movement"):
                self._trace.add(BANK, f"takes the money ({short_key(parameters[1])})", kind="money")
