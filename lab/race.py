"""A scene: one defence under one attack, with real requests between real processes.

A scene runs in a process of its own, which is forked from a process without threads. It forks the shop's workers, then
runs the bank and the shopper in threads. Afterwards its files are removed and all of its processes are killed.
"""

import json
import os
import select
import shutil
import signal
import sys
import tempfile
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
from lab.browser import Form, Page, send_together
from lab.clock import Clock
from lab.defences import Defence, payonce
from lab.defences.payment_client import PaymentClient
from lab.serving import Server
from lab.shoppers import PayOnceShopper, SmallShopShopper
from lab.trace import BANK, RECOVERY, SHOPPER, Step, Trace, TracedTransport

WORKERS = 2
TIME_LIMIT = 60.0
"""Seconds that a scene may take. It usually takes about one, and more on a busy machine."""
MINUTE = 60.0


class SceneFailed(Exception):
    """The scene itself broke or took too long. This is an error of the Lab and says nothing about the defence."""


@dataclass(frozen=True)
class Result:
    """A cell of the matrix: how often the bank took the money, and what the shopper's windows said in the end."""

    defence: int
    attack: int
    charges: int
    told: str
    verdict: str
    seconds: float
    steps: list[Step]


def verdict(charges: int, told: list[str]) -> str:
    """Return "red" unless there is one charge; then "green" if the shopper is told "paid", "amber" if not."""
    if charges != 1:
        return "red"
    return "green" if set(told) == {"paid"} else "amber"


def play(defence: Defence, attack: Attack) -> Result:
    """Play one scene in a process of its own. Raises SceneFailed."""
    receive, send = os.pipe()
    folder = Path(tempfile.mkdtemp(prefix="payonce-lab-"))
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        _run_as_child(lambda: _report(send, defence, attack, folder))
    os.close(send)
    try:
        report = json.loads(_read_line(receive, TIME_LIMIT) or '{"error": "the process ended without a result"}')
    finally:
        os.close(receive)
        _kill_group(pid)
        shutil.rmtree(folder, ignore_errors=True)
    if "error" in report:
        raise SceneFailed(f"{defence.name} × {attack.name}: {report['error']}")
    return result_from(report)


def result_from(fields: dict[str, Any]) -> Result:
    """Return the result that was written as JSON."""
    return Result(**{**fields, "steps": [Step(**step) for step in fields["steps"]]})


class Scene:
    """One shop under attack. An instance is used once."""

    def __init__(self, defence: Defence, timeout: float, folder: Path) -> None:
        self.trace = Trace(folder / "trace")
        self.clock = Clock()
        self.bank = LabBank(folder, self.trace)
        app = self._create_shop(defence, timeout, folder)
        self._server = Server(self.trace.trace_requests(app))
        self._workers = [_fork(self._server.serve) for _ in range(WORKERS)]
        self._recovery = _Recovery(self.trace, app) if defence.create is None else None
        self.bank.start()
        shopper = PayOnceShopper if defence.create is None else SmallShopShopper
        self.shopper: SmallShopShopper = shopper(self._server.url, self.trace)

    def _create_shop(self, defence: Defence, timeout: float, folder: Path) -> Any:
        if defence.create is None:
            transport = TracedTransport(DeadlineTransport(), self.trace)
            app = payonce.create(self.bank.url, folder, timeout, transport)
            with app.app_context():
                self._observe(db.engine)
            return app
        engine = create_engine(f"sqlite:///{folder}/small_shop.sqlite", connect_args={"timeout": 10})
        prepare_sqlite(engine)
        client = PaymentClient(self.bank.url, timeout, TracedTransport(httpx.HTTPTransport(), self.trace))
        app = defence.create(client, engine, self.clock)
        self._observe(engine)
        return app

    def _observe(self, engine: Any) -> None:
        self.trace.trace_statements(engine)
        self.clock.apply_to(engine)
        engine.dispose()  # Forked processes must not share connections.

    def stop(self) -> None:
        """Stop everything that the scene started."""
        for pid in [*self._workers, *([self._recovery.pid] if self._recovery else [])]:
            _kill(pid)
        self.bank.stop()
        self._server.stop()

    def note(self, text: str) -> None:
        """Add something that the shopper does or reads to the trace."""
        self.trace.add(SHOPPER, text)

    def open_form(self) -> Form:
        """Open the payment form in a tab."""
        return self.shopper.open_form()

    def press(self, form: Form, action: str = "presses Pay") -> Page:
        """Press the form's button. Return the page that follows."""
        self.note(action)
        page = self.shopper.browser.press(form)
        assert page is not None  # Only the second click on a disabled button sends nothing.
        return page

    def reload(self, page: Page) -> Page:
        """Reload a page. If it is the response to a POST, the POST is sent again."""
        self.note("reloads the page" if page.status else "sees no answer, reloads: the form is sent again")
        return self.shopper.browser.reload(page)

    def press_together(self, forms: list[Form], action: str) -> list[Page]:
        """Press all buttons at the same moment. Return the pages of those that sent something.

        The bank holds its responses back until every request has arrived there or has ended without asking it.
        """
        self.note(action)
        gate = Gate(len(forms), QUIET)
        self.bank.fault = gate.hold

        def press(form: Form) -> Page | None:
            page = self.shopper.browser.press(form)
            gate.arrived()
            return page

        return send_together(press, forms)

    def do_as_told(self, page: Page, form: Form) -> Page:
        """Do what the page tells the shopper to do, if anything. Without a page, reload."""
        if not page.status:
            return self.reload(page)
        self.note(f"is told: {self.shopper.told(page)}")
        form_to_send = self.shopper.next_form(page)
        return self.press(form_to_send, "does as told: presses Pay") if form_to_send else page

    def kill_worker(self, number: int) -> None:
        """Fault of the bank: kill the worker that sent the first request, before it gets its response."""
        if number == 1:
            question = next(step for step in reversed(self.trace.steps()) if step.to == BANK)
            self._workers.remove(question.pid)
            self.trace.add(question.actor, "is killed (SIGKILL)", kind="killed")
            _kill(question.pid)
            raise ConnectionResetError

    def final_messages(self, pages: list[Page]) -> list[str]:
        """Return what the shopper's windows say a minute later, after a pass of recovery.

        Windows that show the response to a POST stay as they are; the others are loaded again.
        """
        self.clock.advance(MINUTE)
        if self._recovery and any(self.shopper.told(page) != "paid" for page in pages):
            self.note("waits a minute")
            self._recovery.run()
        shown = [page if page.posted else self.shopper.browser.get(page.url) for page in pages]
        told = [self.shopper.told(page) for page in shown]
        for text in sorted(set(told)):
            self.note(f"is told in the end: {text}")
        return told


class _Recovery:
    """The recovery worker: a process of its own that makes one pass for each byte in its pipe."""

    def __init__(self, trace: Trace, app: Any) -> None:
        commands, self._commands = os.pipe()
        self._done, done = os.pipe()

        def work() -> None:
            while os.read(commands, 1):
                trace.actor = RECOVERY
                payonce.recover(app)
                os.write(done, b".")

        self.pid = _fork(work)

    def run(self) -> None:
        """Make one pass and wait until it is done."""
        os.write(self._commands, b".")
        select.select([self._done], [], [], TIME_LIMIT)
        os.read(self._done, 1)


def _report(send: int, defence: Defence, attack: Attack, folder: Path) -> None:
    try:
        report = asdict(_play_here(defence, attack, folder))
    except Exception:
        report = {"error": traceback.format_exc(limit=-4)}
    with os.fdopen(send, "w") as file:
        file.write(json.dumps(report) + "\n")


def _play_here(defence: Defence, attack: Attack, folder: Path) -> Result:
    started = monotonic()
    scene = Scene(defence, attack.timeout, folder)
    try:
        told = scene.final_messages(attack.run(scene))
    finally:
        scene.stop()
    charges = scene.bank.charges()
    seconds = round(monotonic() - started, 2)
    texts = ", ".join(sorted(set(told)))
    return Result(defence.number, attack.number, charges, texts, verdict(charges, told), seconds, scene.trace.steps())


def _fork(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        _run_as_child(work)
    return pid


def _run_as_child(work: Callable[[], None]) -> None:
    """Run `work` and end the process: a forked process must not continue its parent's code. Discard its output."""
    try:
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, 1)
        os.dup2(devnull, 2)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        work()
    finally:
        sys.stderr.flush()
        os._exit(0)


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _kill_group(pid: int) -> None:
    """Kill the scene's process and all processes that it forked."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _read_line(receive: int, seconds: float) -> str:
    """Return the line that the scene writes. Raises SceneFailed if it takes longer than `seconds`."""
    parts, end = [], monotonic() + seconds
    while True:
        if not select.select([receive], [], [], max(0.0, end - monotonic()))[0]:
            raise SceneFailed(f"it took longer than {seconds:.0f} s")
        part = os.read(receive, 65_536)
        parts.append(part)
        if not part or part.endswith(b"\n"):
            return b"".join(parts).decode()
