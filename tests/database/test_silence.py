"""PostgreSQL falls silent: connections stay open and nothing arrives. Each wait ends, and no connection stays hung.

The silent twins of `test_connections.py`. A proxy replaces the network, and the limits are shorter than in the shop.
"""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from app import engines
from app.database import Unreachable, db, reading, transaction
from tests.gateways.bank import until
from tests.postgres import Server
from tests.shops import Shop
from tests.silence import AFTER, BEFORE, Line, line, shorten_limits, socket_of

# A thread ends a test that hangs, because the driver does not let a signal end its wait.
pytestmark = [pytest.mark.postgres, pytest.mark.timeout(120, method="thread")]


@pytest.fixture(autouse=True)
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_limits(monkeypatch)


@pytest.fixture
def proxy(postgres: Server) -> Iterator[Line]:
    with line(socket_of(postgres)) as proxy:
        yield proxy


@pytest.fixture
def shop(proxy: Line, postgres_reused: Callable[[], str], tmp_path: Path) -> Iterator[Shop]:
    """Yield a shop behind the line, with its app context pushed and one idle connection."""
    shop = Shop(proxy.url(postgres_reused()), tmp_path)
    with shop.app.app_context():
        read()
        yield shop
    shop.close()


def read() -> None:
    with reading() as tx:
        tx.execute(text("SELECT 1"))


def write() -> None:
    with transaction() as tx:
        tx.execute(text("UPDATE product SET stock = stock"))


def refuse() -> None:
    """Raise inside a transaction, which is then rolled back."""
    with transaction() as tx:
        tx.execute(text("UPDATE product SET stock = stock"))
        raise LookupError


USES = [read, write]


@pytest.mark.parametrize("use", USES)
def test_an_idle_connection_that_fell_silent_is_replaced(
    shop: Shop, proxy: Line, use: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "IDLE", 0.0)
    proxy.forget()
    use()


@pytest.mark.parametrize("use", USES)
def test_a_connection_that_falls_silent_in_use_is_reported_once(
    shop: Shop, proxy: Line, use: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "IDLE", 60.0)
    proxy.forget()
    with pytest.raises(Unreachable):
        use()
    use()


@pytest.mark.slow
def test_a_server_that_is_silent_from_the_start_is_unreachable(shop: Shop, proxy: Line) -> None:
    proxy.go_silent()
    db.engine.dispose()
    for use in USES:
        with pytest.raises(Unreachable):
            use()
    proxy.restore()
    for use in USES:
        use()


@pytest.mark.slow
@pytest.mark.parametrize(("mark", "side", "use"), [
    (b"SELECT 1", AFTER, read),
    (b"BEGIN", BEFORE, write),
    (b"UPDATE", BEFORE, write),
    (b"UPDATE", AFTER, write),
    (b"COMMIT", BEFORE, write),
    (b"COMMIT", AFTER, write),
    (b"ROLLBACK", BEFORE, refuse),
])  # fmt: skip
def test_each_wait_for_a_silent_server_ends(
    shop: Shop, proxy: Line, mark: bytes, side: str, use: Callable[[], None]
) -> None:
    """During the silence nobody responds on new connections either. Afterwards everything works at once."""
    proxy.silence_at(mark, side=side)
    with pytest.raises((Unreachable, LookupError)):
        use()
    assert proxy.silences == 1
    assert db.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    proxy.restore()
    for _ in range(2):
        read()
        write()


def test_a_statement_without_time_outs_is_not_cut(shop: Shop) -> None:
    """The audit and migrations may take any time. The limit is back as soon as the connection is used again."""
    slow = text("SELECT pg_sleep(2)")
    with reading(together=True) as tx:
        engines.lift_time_outs(tx, "statement_timeout")
        tx.execute(slow)
    with pytest.raises(Unreachable), reading(together=True) as tx:
        tx.execute(slow)


def test_a_silent_cancellation_does_not_stop_the_process(shop: Shop, proxy: Line) -> None:
    """The COMMIT gets no answer, and neither does the request to cancel it. The other threads continue meanwhile.

    This runs in a process of its own: one that stops could not even tell that it has.
    """
    proxy.silence_at(b"COMMIT", side=AFTER)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            db.engine.dispose(close=False)
            with pytest.raises(Unreachable):
                write()
            code = 0
        finally:
            os._exit(code)
    try:
        until(lambda: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG), 30)
    finally:
        os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
    assert os.WEXITSTATUS(status) == 0
