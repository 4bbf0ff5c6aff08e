"""gunicorn's settings, each with its reason. The command line and WEB_CONCURRENCY override them."""

import fcntl
import math
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

_FOLDER = "payonce-metrics-"
_SHARED_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108


def _make_metrics_folder() -> None:
    """Create a folder in which this master's workers share their counters, so that /metrics returns the sums of all.

    It is inside PROMETHEUS_MULTIPROC_DIR, or else in memory where there is a file system in memory. Each master has a
    folder of its own, also after SIGUSR2, when the new master inherits the variable of the one before. The folder is
    locked as long as the master or a worker runs: the next start removes folders that nobody has locked.
    """
    given = Path(os.environ.get("PROMETHEUS_MULTIPROC_DIR") or _SHARED_MEMORY or tempfile.gettempdir())
    if given.name.startswith(f"{_FOLDER}{os.getpid()}-"):
        return  # This master reads its settings again, because of SIGHUP.
    parent = given.parent if given.name.startswith(_FOLDER) else given
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for earlier in parent.glob(f"{_FOLDER}*"):
            if earlier.lstat().st_uid == os.getuid() and _lock(earlier):
                shutil.rmtree(earlier, ignore_errors=True)
        while True:
            folder = Path(tempfile.mkdtemp(prefix=f"{_FOLDER}{os.getpid()}-", dir=parent))
            if _lock(folder) and folder.exists():
                break  # Else another start took it for an old one, in the moment before it was locked.
    except OSError:  # No folder is writable. Each worker then counts only its own requests.
        os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
        return
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)


def _lock(folder: Path) -> bool:
    """Lock a folder as long as this process or a fork of it runs. Return False if another one has locked it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False


def _settings() -> Any:
    """Return the program's own settings, some of which must agree with gunicorn's. Exit with one line on an error."""
    from app.settings import Settings, SettingsError

    try:
        return Settings.from_environ()
    except SettingsError as error:
        sys.exit(f"PayOnce can't start: {error}")


# Before the program is imported, because the metrics library reads the variable only once, at its import.
_make_metrics_folder()
_own = _settings()
# Seconds for the claim and the record, which are one short transaction each, also if the database is slow.
_TRANSACTIONS = 10

# Only loopback, because a proxy that speaks TLS faces the network. A container uses --bind 0.0.0.0:8000.
bind = f"127.0.0.1:{os.environ.get('PORT') or 8000}"

# A charge spends most of its time waiting for the gateway. A sync worker serves one shopper at a time and kills a slow
# charge. Threads wait cheaply, and the database driver lets other threads run while it waits.
# Ours does not give a thread to a request before all of it has arrived, and limits how long that may take.
worker_class = "app.server.worker.Worker"
# At least two, so that the shop still serves while one worker is busy or restarts. At most four, because each has a
# pool of up to 20 connections and PostgreSQL allows 100 by default. WEB_CONCURRENCY overrides this; `when_ready` warns
# if there may be too many connections.
workers = int(os.environ.get("WEB_CONCURRENCY") or min(4, max(2, os.cpu_count() or 1)))
# The number of shoppers per worker who can wait for a slow bank at the same time. No database connection is held while
# a gateway is asked, so there can be more threads than connections. Measured by `make bench` (64 shoppers, a bank that
# takes 300 ms): workers share the shoppers unevenly, so with 2 × 32 threads some shoppers waited for one worker while
# threads of the other were idle. 2 × 64 served a third more. Idle threads cost very little.
# A quarter of them never waits for the bank (see app/places.py), so pages are served also while the bank is silent.
# With 96, the other 72 are enough if all 64 shoppers reach one worker.
threads = _own.gunicorn_threads

# Seconds that a stopping worker has to finish its charges in flight, which means to ask and to record.
graceful_timeout = math.ceil(_own.gateway_deadline) + _TRANSACTIONS
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
# worker after worker would start and fail. SIGHUP therefore starts workers with the same code; SIGUSR2 or a restart of
# one host after the other loads new code (docs/deployment.md).
preload_app = True

# Only proxies in TRUSTED_PROXIES may set X-Forwarded-* headers. By default, gunicorn trusts every client on loopback.
forwarded_allow_ips = ",".join(_own.trusted_proxies)
# No header of a request, not even of a trusted proxy's, becomes a variable such as SCRIPT_NAME or PATH_INFO. gunicorn's
# default takes those two from trusted proxies, which pass on the headers of their clients.
forwarder_headers = ""
# Connections per worker, of which most may wait for the rest of a request. Fewer than the 1024 files that a process may
# usually open.
worker_connections = 600

# gunicorn's access log would contain complete addresses, also those that hold secrets. The program logs requests
# itself, structured and redacted. The error log contains only starts, stops and crashes of workers.
accesslog = None
errorlog = "-"
# Its lines have the form of the program's, so that one tool reads the whole log.
logger_class = "app.server.lines.JsonLines"
# The control socket has one path per user, so two shops on one machine would conflict. It also needs a thread in the
# master, and a process with threads must not fork.
control_socket_disable = True
# The workers' heartbeats are files. They are kept in memory, so that a slow disk does not look like a dead worker.
worker_tmp_dir = _SHARED_MEMORY


def when_ready(server: Any) -> None:
    """Check what can be checked only before the workers start, and let SIGTERM drain this host first."""
    from app.server import starting, stopping

    starting.warn(server.app.wsgi(), server.cfg.workers)
    stopping.drain_before_stopping(server, _own.drain_seconds)


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
