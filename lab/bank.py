"""The lab's bank: the sandbox bank itself over books of its own, on loopback, with a fault before each answer."""

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.engine import Connection

from lab.serving import Server
from lab.trace import BANK, Trace, key_words
from sandbox_bank import create_bank
from sandbox_bank.statement import statement

Fault = Callable[[int], None]
"""Called with the number of the request for money, once that money is decided and before the answer leaves.
It may wait, or raise ConnectionResetError: then the answer is lost."""

SILENCE = 30.0
"""Seconds that an answer is held back at most: longer than any shop of the lab waits."""


def lose_first(number: int) -> None:
    """The first answer is lost on its way: the connection breaks after the money was taken."""
    if number == 1:
        raise ConnectionResetError


class Gate:
    """Holds the answers back until as many requests as expected have arrived, here or at an end elsewhere.

    A barrier instead of luck: what can happen at the same moment does. Where nobody has arrived for `quiet`
    seconds, the others wait for each other in the shop, and the barrier is lifted.
    """

    def __init__(self, expected: int, quiet: float) -> None:
        self._left = expected
        self._quiet = quiet
        self._change = threading.Condition()

    def arrived(self) -> None:
        """One of the expected is at the bank, or was answered without it."""
        with self._change:
            self._left -= 1
            self._change.notify_all()

    def hold(self, _number: int) -> None:
        """As a fault: arrive, then wait for the rest."""
        self.arrived()
        with self._change:
            while self._left > 0 and self._change.wait(self._quiet):
                pass


class LabBank:
    """The bank of one scene. `fault` is what befalls its answers to requests for money."""

    def __init__(self, folder: Path, trace: Trace) -> None:
        self._bank = create_bank(f"sqlite:///{folder}/bank/bank.sqlite", hold_seconds=SILENCE)
        self._books: Engine = self._bank.config["BOOKS"]
        self._trace = trace
        self._asked = 0
        self._count = threading.Lock()
        self._over = threading.Event()
        self.fault: Fault = lambda number: None
        self._tell_of_money()
        self._server = Server(self._application)
        self.url = self._server.url

    def start(self) -> None:
        """Serve, in threads of this process. Only after every process of the scene has been forked."""
        self._server.start()

    def stop(self) -> None:
        """Let go of every answer that is held back, and stop."""
        self._over.set()
        self._server.stop()
        self._books.dispose()

    def never_answer(self, _number: int) -> None:
        """As a fault: the answer is held back until whoever asked has long given up."""
        self._over.wait(SILENCE)
        raise ConnectionResetError

    def charges(self) -> int:
        """How often money was taken: the statement's word."""
        return sum(movement.kind == "charge" for movement in statement(self._books))

    def _application(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if (environ["REQUEST_METHOD"], environ["PATH_INFO"]) != ("POST", "/v1/charges"):
            return self._bank(environ, start_response)
        begun: list[Any] = []

        def begin(*given: Any) -> Callable[[bytes], object]:
            begun.extend(given)
            return begun.append

        answer = b"".join(self._bank(environ, begin))
        with self._count:
            self._asked += 1
            number = self._asked
        self.fault(number)
        start_response(*begun)
        return [answer]

    def _tell_of_money(self) -> None:
        @event.listens_for(self._books, "after_cursor_execute")
        def _executed(_conn: Connection, _cursor: Any, statement: str, given: Any, *_rest: Any) -> None:
            if statement.startswith("INSERT INTO bank_movements"):
                self._trace.say(BANK, f"takes the money ({key_words(given[0])})", kind="money")
