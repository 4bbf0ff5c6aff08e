"""gunicorn's settings, each with its reason. The command line and WEB_CONCURRENCY override them."""

import atexit
import math
import os
import shutil
import sys
import tempfile
from typing import Any


def _make_metrics_folder() -> None:
    """Where the workers' counters meet, so that /metrics answers for all of them; new at each start."""
    if given := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        os.makedirs(given, exist_ok=True)
        return
    try:
        folder = tempfile.mkdtemp(prefix="payonce-metrics-")
    except OSError:  # Read-only everywhere: then each worker counts for itself.
        return
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    master = os.getpid()
    atexit.register(lambda: shutil.rmtree(folder, ignore_errors=True) if os.getpid() == master else None)


def _gateway_deadline_and_proxies() -> tuple[float, tuple[str, ...]]:
    """What must agree with the program's own settings; one line where those make no sense."""
    from app.settings import Settings, SettingsError

    try:
        settings = Settings.from_environ()
    except SettingsError as error:
        sys.exit(f"PayOnce can't start: {error}")
    return settings.gateway_deadline, settings.trusted_proxies


# Before anything of the program is imported: the metrics library looks once, when it is loaded.
_make_metrics_folder()
_deadline, _proxies = _gateway_deadline_and_proxies()
# Time for the claim and the record, each one short transaction, and for a database that is slow just then.
_BOOKS = 10

# Loopback: what faces the network is a proxy that speaks TLS. A container says --bind 0.0.0.0:8000.
bind = f"127.0.0.1:{os.environ.get('PORT') or 8000}"

# A charge spends its time waiting for the gateway. sync workers would serve one shopper at a time and kill
# a charge that takes long; threads wait cheaply, and the database driver lets the others run meanwhile.
worker_class = "gthread"
# Two at least, so that one busy or restarting worker is not the whole shop; few, because each has a pool of
# up to 20 connections and PostgreSQL grants 100 by default. WEB_CONCURRENCY says otherwise.
workers = int(os.environ.get("WEB_CONCURRENCY") or min(4, max(2, os.cpu_count() or 1)))
# Shoppers per worker whose bank may be slow at the same time. No connection is held while a gateway is
# asked, so threads may outnumber the pool. Measured by `make bench` (64 shoppers, a bank of 300 ms): workers
# share connections unevenly, so 2 × 32 left shoppers waiting in one worker while threads idled in the other;
# 2 × 64 served a third more, 2 × 96 no more than that. An idle thread costs next to nothing.
threads = int(os.environ.get("GUNICORN_THREADS") or 64)

# A stopping worker lets the charges in flight finish: asked and recorded.
graceful_timeout = math.ceil(_deadline) + _BOOKS
# How long a worker may stay silent before it is killed. Its main thread reports while the others wait for
# gateways, so this ends a worker that hangs as a whole, never a slow charge; those have their own deadline.
timeout = graceful_timeout + 15
# A browser's next click finds the connection open. Short, because a browser that posts into a connection
# closed just then sends the form again (harmless here, but noise).
keepalive = 5

# A leak in any library never grows old; the jitter keeps the workers from restarting together.
max_requests = 20_000
max_requests_jitter = 4_000

# Loaded once, before any worker: what is wrong stops the start with one message, not a loop of dying workers.
preload_app = True

# Whose X-Forwarded-* headers count: TRUSTED_PROXIES. gunicorn's own default is anyone on loopback.
forwarded_allow_ips = ",".join(_proxies)

# gunicorn's access log would write addresses with whatever secret stands in them. The program logs requests
# itself, structured and redacted; here are only starts, stops and deaths of workers.
accesslog = None
errorlog = "-"
# The control socket has one place per user, where two shops on a machine would meet; and it is a thread in
# the master, which forks.
control_socket_disable = True
# The workers' heartbeat is a file: in memory, so that a slow disk does not look like a dead worker.
worker_tmp_dir = next((d for d in ("/dev/shm",) if os.access(d, os.W_OK)), None)  # noqa: S108


def post_fork(server: Any, worker: Any) -> None:
    """Connections made before the fork belong to the master: forget them here without closing them."""
    from app.database import db

    with server.app.wsgi().app_context():
        db.engine.dispose(close=False)


def child_exit(server: Any, worker: Any) -> None:
    """A dead worker's gauges no longer count; its counters stay."""
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(worker.pid)
