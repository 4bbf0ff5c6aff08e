"""A scene: one defence, one attack, real requests between real processes, and what came of it.

The scene is a process of its own, forked from one without threads; it forks the shop's workers, then plays
the bank and the shopper in threads. What it made on disk is removed, what it forked is ended with it.
"""

import json
import os
import select
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
from sqlalchemy import create_engine

from app.database import db
from app.engines import prepare_sqlite
from app.gateways.http import DeadlineTransport
from lab.attacks import QUIET, Attack
from lab.bank import Gate, LabBank
from lab.browser import Form, Page
from lab.clock import Clock
from lab.defences import Defence, payonce
from lab.defences.till import Till
from lab.serving import Server
from lab.shoppers import PayOnceShopper, StallShopper
from lab.trace import BANK, RECOVERY, SHOPPER, Step, Trace, WatchedTransport

WORKERS = 2
TIME_LIMIT = 60.0
"""Seconds that a scene may take; it usually takes about one, more on a machine that has much else to do."""
MINUTE = 60.0


class SceneFailed(Exception):
    """The scene itself broke or took too long: a fault of the lab, not of the defence."""


@dataclass(frozen=True)
class Result:
    """A cell of the matrix: how often the bank took the money (once is meant), and what the shopper was told."""

    defence: int
    attack: int
    charges: int
    told: str
    verdict: str
    seconds: float
    steps: list[Step]


def verdict(charges: int, told: list[str]) -> str:
    """Green: one charge and the shopper knows. Amber: one charge, told wrong or nothing. Red: not one charge."""
    if charges != 1:
        return "red"
    return "green" if set(told) == {"paid"} else "amber"


def play(defence: Defence, attack: Attack) -> Result:
    """One scene, in a process of its own. Raises SceneFailed."""
    receive, send = os.pipe()
    folder = Path(tempfile.mkdtemp(prefix="payonce-lab-"))
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        _in_child(lambda: _report(send, defence, attack, folder))
    os.close(send)
    try:
        answer = json.loads(_read_all(receive, TIME_LIMIT) or '{"error": "it ended without a word"}')
    finally:
        os.close(receive)
        _end_group(pid)
        shutil.rmtree(folder, ignore_errors=True)
    if "error" in answer:
        raise SceneFailed(f"{defence.name} × {attack.name}: {answer['error']}")
    return result_from(answer)


def result_from(fields: dict[str, Any]) -> Result:
    """A result out of its JSON."""
    return Result(**{**fields, "steps": [Step(**step) for step in fields["steps"]]})


class Scene:
    """One shop under attack. Usable once."""

    def __init__(self, defence: Defence, timeout: float, folder: Path) -> None:
        self.trace = Trace(folder / "trace")
        self.clock = Clock()
        self.bank = LabBank(folder, self.trace)
        app = self._shop(defence, timeout, folder)
        self._server = Server(self.trace.watch_requests(app))
        self._workers = [_fork(self._server.serve) for _ in range(WORKERS)]
        self._recovery = _Recovery(self.trace, app) if defence.create is None else None
        self.bank.start()
        shopper = PayOnceShopper if defence.create is None else StallShopper
        self.shopper: StallShopper = shopper(self._server.url, self.trace)

    def _shop(self, defence: Defence, timeout: float, folder: Path) -> Any:
        """The defence over a database of its own; connections made now would be shared by the forked: none stays."""
        if defence.create is None:
            way = WatchedTransport(DeadlineTransport(), self.trace)
            app = payonce.create(self.bank.url, folder, timeout, way)
            with app.app_context():
                self._watch(db.engine)
            return app
        books = create_engine(f"sqlite:///{folder}/stall.sqlite", connect_args={"timeout": 10})
        prepare_sqlite(books)
        till = Till(self.bank.url, timeout, WatchedTransport(httpx.HTTPTransport(), self.trace))
        app = defence.create(till, books, self.clock)
        self._watch(books)
        return app

    def _watch(self, engine: Any) -> None:
        self.trace.watch_statements(engine)
        self.clock.drive(engine)
        engine.dispose()

    def end(self) -> None:
        """Everything that was started."""
        for pid in [*self._workers, *([self._recovery.pid] if self._recovery else [])]:
            _kill(pid)
        self.bank.stop()
        self._server.stop()

    def say(self, words: str) -> None:
        self.trace.say(SHOPPER, words)

    def open_form(self) -> Form:
        return self.shopper.open_form()

    def press(self, form: Form, how: str = "presses Pay") -> Page:
        """The button, and the page that it leads to."""
        self.say(how)
        page = self.shopper.browser.press(form)
        assert page is not None  # Only a second click on a guarded button sends nothing.
        return page

    def reload(self, page: Page) -> Page:
        """Of a page that a POST made, the browser sends the POST again."""
        self.say("reloads the page" if page.status else "sees no answer, reloads: the form is sent again")
        return self.shopper.browser.reload(page)

    def at_once(self, forms: list[Form], how: str) -> list[Page]:
        """All of them pressed at the same moment; the bank holds its answers back until each of them has arrived
        at the bank or been answered without it."""
        self.say(how)
        gate = Gate(len(forms), QUIET)
        self.bank.fault = gate.hold
        start = threading.Barrier(len(forms))
        pages: list[Page] = []

        def one(form: Form) -> None:
            start.wait()
            page = self.shopper.browser.press(form)
            gate.arrived()
            if page is not None:
                pages.append(page)

        threads = [threading.Thread(target=one, args=(form,)) for form in forms]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return pages

    def do_as_told(self, page: Page, form: Form) -> Page:
        """A shopper does what the page says. Without a page they reload; where it asks for nothing they wait."""
        if not page.status:
            return self.reload(page)
        self.say(f"is told: {self.shopper.told(page)}")
        asked = self.shopper.next_form(page)
        return self.press(asked, "does as told: presses Pay") if asked else page

    def kill_worker(self, number: int) -> None:
        """As a fault of the bank's: whoever asked dies before the answer."""
        if number == 1:
            asking = next(step for step in reversed(self.trace.steps()) if step.to == BANK)
            self._workers.remove(asking.pid)
            self.trace.say(asking.actor, "is killed (SIGKILL)", kind="killed")
            _kill(asking.pid)
            raise ConnectionResetError

    def look_again(self, pages: list[Page]) -> list[str]:
        """A minute later, when recovery has passed: what the shopper's windows say, got again where they can be."""
        self.clock.move(MINUTE)
        if self._recovery and any(self.shopper.told(page) != "paid" for page in pages):
            self.say("waits a minute")
            self._recovery.run()
        shown = [page if page.sent else self.shopper.browser.get(page.url) for page in pages]
        told = [self.shopper.told(page) for page in shown]
        for words in sorted(set(told)):
            self.say(f"is told in the end: {words}")
        return told


class _Recovery:
    """The recovery worker: a process of its own that makes a pass when told."""

    def __init__(self, trace: Trace, app: Any) -> None:
        orders, self._orders = os.pipe()
        self._done, done = os.pipe()

        def work() -> None:
            while os.read(orders, 1):
                trace.me = RECOVERY
                payonce.recover(app)
                os.write(done, b".")

        self.pid = _fork(work)

    def run(self) -> None:
        """One pass, waited for."""
        os.write(self._orders, b".")
        select.select([self._done], [], [], TIME_LIMIT)
        os.read(self._done, 1)


def _report(send: int, defence: Defence, attack: Attack, folder: Path) -> None:
    try:
        answer = asdict(_play_here(defence, attack, folder))
    except Exception:
        answer = {"error": traceback.format_exc(limit=-4)}
    with os.fdopen(send, "w") as file:
        file.write(json.dumps(answer) + "\n")


def _play_here(defence: Defence, attack: Attack, folder: Path) -> Result:
    started = monotonic()
    scene = Scene(defence, attack.timeout, folder)
    try:
        told = scene.look_again(attack.run(scene))
    finally:
        scene.end()
    charges = scene.bank.charges()
    words = ", ".join(sorted(set(told)))
    took = round(monotonic() - started, 2)
    return Result(defence.number, attack.number, charges, words, verdict(charges, told), took, scene.trace.steps())


def _fork(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        _in_child(work)
    return pid


def _in_child(work: Callable[[], None]) -> None:
    """Never comes back: a forked process must not run its parent's rest. What it logs is nobody's."""
    try:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        work()
    finally:
        sys.stderr.flush()
        os._exit(0)


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _end_group(pid: int) -> None:
    """The scene and whatever it has left behind."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _read_all(receive: int, seconds: float) -> str:
    """The line that the scene says. Raises SceneFailed when its time is up."""
    parts, end = [], monotonic() + seconds
    while True:
        if not select.select([receive], [], [], max(0.0, end - monotonic()))[0]:
            raise SceneFailed(f"it took longer than {seconds:.0f} s")
        part = os.read(receive, 65_536)
        parts.append(part)
        if not part or part.endswith(b"\n"):
            return b"".join(parts).decode()
