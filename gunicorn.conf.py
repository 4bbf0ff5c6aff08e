"""gunicorn's settings, each with its reason. The command line and WEB_CONCURRENCY override them."""

import atexit
import math
import os
import shutil
import sys
import tempfile
from typing import Any

import structlog


def _make_metrics_folder() -> None:
    """Create a new folder in which the workers share their counters, so that /metrics returns the sums of all."""
    if given := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        os.makedirs(given, exist_ok=True)
        return
    try:
        folder = tempfile.mkdtemp(prefix="payonce-metrics-")
    except OSError:  # No folder is writable. Each worker then counts only its own requests.
        return
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    master = os.getpid()
    atexit.register(lambda: shutil.rmtree(folder, ignore_errors=True) if os.getpid() == master else None)


def _gateway_deadline_and_proxies() -> tuple[float, tuple[str, ...]]:
    """Return the program's own settings that must agree with gunicorn's. Exit with one line if a setting is invalid."""
    from app.settings import Settings, SettingsError

    try:
        settings = Settings.from_environ()
    except SettingsError as error:
        sys.exit(f"PayOnce can't start: {error}")
    return settings.gateway_deadline, settings.trusted_proxies


# Before the program is imported, because the metrics library reads the variable only once, at its import.
_make_metrics_folder()
_deadline, _proxies = _gateway_deadline_and_proxies()
# Seconds for the claim and the record, which are one short transaction each, also if the database is slow.
_TRANSACTIONS = 10

# Only loopback, because a proxy that speaks TLS faces the network. A container uses --bind 0.0.0.0:8000.
bind = f"127.0.0.1:{os.environ.get('PORT') or 8000}"

# A charge spends most of its time waiting for the gateway. A sync worker serves one shopper at a time and kills a slow
# charge. Threads wait cheaply, and the database driver lets other threads run while it waits.
worker_class = "gthread"
# At least two, so that the shop still serves while one worker is busy or restarts. At most four, because each has a
# pool of up to 20 connections and PostgreSQL allows 100 by default. WEB_CONCURRENCY overrides this.
workers = int(os.environ.get("WEB_CONCURRENCY") or min(4, max(2, os.cpu_count() or 1)))
# The number of shoppers per worker who can wait for a slow bank at the same time. No database connection is held while
# a gateway is asked, so there can be more threads than connections. Measured by `make bench` (64 shoppers, a bank that
# takes 300 ms): workers share the shoppers unevenly, so with 2 × 32 threads some shoppers waited for one worker while
# threads of the other were idle. 2 × 64 served a third more, 2 × 96 not more than that. Idle threads cost very little.
threads = int(os.environ.get("GUNICORN_THREADS") or 64)

# Seconds that a stopping worker has to finish its charges in flight, which means to ask and to record.
graceful_timeout = math.ceil(_deadline) + _TRANSACTIONS
# Seconds without a heartbeat after which a worker is killed. The worker's main thread sends heartbeats while the other
# threads wait for gateways, so this ends only a worker that hangs completely. A slow charge has its own deadline.
timeout = graceful_timeout + 15
# Seconds that a connection stays open for the browser's next request. Few, because a browser that posts at the moment
# when the connection is closed sends the form again, which is harmless but unnecessary.
keepalive = 5

# Workers restart after this number of requests, which limits memory leaks in libraries. Because of the jitter they do
# not restart at the same time.
max_requests = 20_000
max_requests_jitter = 4_000

# The application is loaded once, before the workers start, so that an error stops the start with one message. Otherwise
# worker after worker would start and fail.
preload_app = True

# Only proxies in TRUSTED_PROXIES may set X-Forwarded-* headers. By default, gunicorn trusts every client on loopback.
forwarded_allow_ips = ",".join(_proxies)

# gunicorn's access log would contain complete addresses, also those that hold secrets. The program logs requests
# itself, structured and redacted. The error log contains only starts, stops and crashes of workers.
accesslog = None
errorlog = "-"
# The control socket has one path per user, so two shops on one machine would conflict. It also needs a thread in the
# master, and a process with threads must not fork.
control_socket_disable = True
# The workers' heartbeats are files. They are kept in memory, so that a slow disk does not look like a dead worker.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108


def when_ready(server: Any) -> None:
    """Warn if each worker would count for itself, so that the limits are as many times as high."""
    from app import current

    with server.app.wsgi().app_context():
        if server.cfg.workers > 1 and current.settings().limits_storage_url.startswith("memory"):
            structlog.get_logger().warning(
                "limits_per_worker", workers=server.cfg.workers, setting="LIMITS_STORAGE_URL"
            )


def pre_fork(server: Any, worker: Any) -> None:
    """Stop the watchdog's thread, which the start-up may have used: a process with threads must not fork."""
    from app import watchdog

    watchdog.stop()


def post_fork(server: Any, worker: Any) -> None:
    """Forget connections that the master opened before the fork, without closing them: they belong to the master."""
    from app.database import db

    with server.app.wsgi().app_context():
        db.engine.dispose(close=False)


def child_exit(server: Any, worker: Any) -> None:
    """Drop a dead worker's gauges from /metrics. Its counters stay."""
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(worker.pid)
