"""Collect the evidence of each request: the form that arrived, and the questions to a gateway that it caused.

In a server, a thread writes it after the response, so that no shopper waits for it, even if writing fails.
"""

import atexit
import os
import threading
from collections import deque
from contextlib import ExitStack
from datetime import UTC, datetime
from time import sleep
from uuid import UUID

import structlog
from flask import Flask, Response, g, request

from app import logs, networks
from app.charges import evidence
from app.charges.evidence import Arrival, Evidence
from app.charges.models import ARRIVALS_COUNTED
from app.charges.rows import ChargeSnapshot
from app.gateways.questions import collected

FAMILIES = {"Edg": "Edge", "OPR": "Opera", "Firefox": "Firefox", "FxiOS": "Firefox", "Chrome": "Chrome",
            "CriOS": "Chrome", "Safari": "Safari", "curl": "curl"}  # fmt: skip
"""A word of the header → the browser's family. The order matters: Edge also names Chrome, and Chrome names Safari."""

PREFIXES = {4: 24, 6: 48}
"""Bits of an address that are kept, by IP version."""

PAUSE = 0.1
"""Seconds in which the thread collects evidence, so that many requests share one transaction."""

MOST = 5000
"""Requests at most whose evidence waits to be written. The evidence of further requests is dropped."""

SINK = "EVIDENCE_WRITER"

log = structlog.get_logger()


def arrived(charge: ChargeSnapshot, key: UUID, *, claimed: bool = False) -> None:
    """Note that a form with this token's key arrived for the charge. `claimed`: this form made the charge.

    Only the first arrivals are kept, as they are counted, so that a flood causes no writes.
    """
    same_form = charge.key == key
    if not claimed and (charge.arrivals if same_form else charge.other_arrivals) >= ARRIVALS_COUNTED:
        return
    answer = str(charge.status) if claimed else "repeat" if same_form else "other_form"
    family = browser_family(request.headers.get("User-Agent", ""))
    network = networks.shortened(request.remote_addr, PREFIXES)
    g.arrivals.append(Arrival(charge.key, g.arrived_at, logs.request_id(), family, network, answer))


def browser_family(user_agent: str) -> str:
    """Return the browser's family, or "other"."""
    return next((family for word, family in FAMILIES.items() if f"{word}/" in user_agent), "other")


class Writer:
    """Writes evidence in a thread of this process. The first `put` starts it, so that a server has forked before."""

    def __init__(self, app: Flask) -> None:
        self._app, self._waiting = app, deque[Evidence]()
        self._pid, self._starting, self._writing = 0, threading.Lock(), threading.Lock()
        self._some = threading.Event()

    def put(self, found: Evidence) -> None:
        """Let the thread write this evidence soon."""
        if len(self._waiting) >= MOST:
            log.warning("evidence_lost", questions=len(found.questions), arrivals=len(found.arrivals), reason="full")
            return
        self._waiting.append(found)
        self._some.set()
        if self._pid != os.getpid():
            self._start()

    def _start(self) -> None:
        with self._starting:
            if self._pid == os.getpid():
                return
            threading.Thread(target=self._run, name="evidence", daemon=True).start()
            atexit.register(self.write)
            self._pid = os.getpid()

    def _run(self) -> None:
        while True:
            self._some.wait()
            sleep(PAUSE)
            self._some.clear()
            self.write()

    def write(self) -> None:
        """Write everything that waits."""
        with self._writing, self._app.app_context():
            evidence.store([self._waiting.popleft() for _ in range(len(self._waiting))])


def write_in_background(app: Flask) -> None:
    """Let a thread write. Without it, each request writes its own evidence before it ends."""
    app.config[SINK] = Writer(app)


def init_app(app: Flask) -> None:
    """Collect the evidence of each request, and have it written."""

    @app.before_request
    def _collect() -> None:
        g.arrived_at, g.arrivals, g.visit = datetime.now(UTC), [], ExitStack()
        g.questions = g.visit.enter_context(collected())

    @app.after_request
    def _keep(response: Response) -> Response:
        found = Evidence("request", g.get("questions", ()), g.get("arrivals", ()))
        if found.questions or found.arrivals:
            writer: Writer | None = app.config.get(SINK)
            writer.put(found) if writer else evidence.store([found])
        return response

    @app.teardown_request
    def _end(_error: BaseException | None) -> None:
        if visit := g.pop("visit", None):
            visit.close()
