"""How gunicorn's master stops: first /readyz fails, so that balancers send no more requests, then it stops."""

import signal
from time import monotonic
from typing import Any

import structlog

from app import draining

log = structlog.get_logger()
AT_ONCE = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}


def drain_before_stopping(server: Any, seconds: float) -> None:
    """Make SIGTERM drain this master for `seconds` before it stops. A second signal stops it at once.

    It does not drain while another master serves the same sockets, during an upgrade by SIGUSR2: the host stays ready.
    """

    def handle_term() -> None:
        if seconds and not server.reexec_pid and not server.master_pid:
            log.info("drain_started", seconds=seconds)
            draining.start()
            _serve_on(server, seconds)
        raise StopIteration  # As gunicorn's own handler of this signal does.

    server.handle_term = handle_term


def _serve_on(server: Any, seconds: float) -> None:
    """Do what gunicorn's main loop does, until the time is over or a signal says to stop."""
    end = monotonic() + seconds
    while (left := end - monotonic()) > 0:
        signals = set(server.wait_for_signals(timeout=min(left, 1.0)))
        if signals & AT_ONCE:
            return
        server.reap_workers()
        server.murder_workers()
        server.manage_workers()
