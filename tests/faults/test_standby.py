"""A synchronous standby that does not respond: the bank is never asked for a claim that a failover would lose.

A COMMIT waits for the standby. If this wait is cancelled, PostgreSQL reports success and a warning. Both servers are
real. The standby is frozen with SIGSTOP, so that no connection is closed. A scripted gateway replaces the bank.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Connection

from app import database
from app.charges import protocol, refunds, rows
from app.charges.protocol import ClaimUnknown, Purchase
from app.charges.states import Status
from app.charges.tokens import new_key
from app.database import Unreachable
from tests.charges.gateways import ScriptedGateway
from tests.conftest import migrate
from tests.factories import order, purchase
from tests.faults.standby import Pair, pair
from tests.gateways.bank import until
from tests.shops import Shop

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.timeout(240)]

WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


@pytest.fixture(scope="module")
def servers() -> Iterator[Pair]:
    with pair() as servers:
        yield servers


@pytest.fixture
def shop(servers: Pair, tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setattr(database, "COMMIT_SECONDS", 0.5)
    name = servers.primary.create()
    url = servers.primary.url(name)
    migrate(url)
    shop = Shop(url, tmp_path)  # type: ignore[arg-type]
    with shop.app.app_context():
        yield shop
    servers.wake()
    shop.close()
    servers.primary.drop(name)


@contextmanager
def disturbing(servers: Pair, sql: str) -> Iterator[list[int]]:
    """Run `sql` for each backend that waits for the standby, until the block ends. Yield the list of these backends."""
    stop, disturbed = Event(), list[int]()

    def disturb() -> None:
        while not stop.wait(0.02):
            for (pid,) in servers.primary.execute(WAITING):
                servers.primary.execute(sql, pid)
                disturbed.append(pid)

    thread = Thread(target=disturb, daemon=True)
    thread.start()
    try:
        yield disturbed
    finally:
        stop.set()
        thread.join(60)


def test_a_claim_that_no_standby_has_is_never_asked_for(servers: Pair, shop: Shop) -> None:
    gateway, token = ScriptedGateway(), order()
    press = purchase(token)
    servers.freeze()
    with pytest.raises(ClaimUnknown):
        protocol.pay(press, gateway, 3.0)
    assert gateway.asked == []
    check_that_it_can_be_paid(servers, gateway, press)


@pytest.mark.parametrize("sql", ["SELECT pg_cancel_backend(%s)", "SELECT pg_terminate_backend(%s)"])
def test_a_claim_whose_wait_somebody_ends_is_never_asked_for(
    servers: Pair, shop: Shop, sql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator ends each wait for the standby. The shop's own deadline is out of reach."""
    monkeypatch.setattr(database, "COMMIT_SECONDS", 120.0)
    gateway, token = ScriptedGateway(), order()
    press = purchase(token)
    servers.freeze()
    with disturbing(servers, sql) as disturbed, pytest.raises(ClaimUnknown):
        protocol.pay(press, gateway, 3.0)
    assert len(disturbed) >= 2, "the first COMMIT and the one that finds out"
    assert gateway.asked == []
    check_that_it_can_be_paid(servers, gateway, press)


def commit_without_reading_the_warning(connection: Connection) -> None:
    """Take every COMMIT that returns for one that the standby has."""
    if transaction := connection.get_transaction():
        transaction.commit()


def read_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_commit", commit_without_reading_the_warning)


def probe_without_a_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the INSERT … SELECT nor the read after its conflict locks a row. So the probe writes nothing."""
    monkeypatch.setattr(rows, "LOCK_BY_KEY_OR_ORDER", rows.BY_KEY_OR_ORDER)

    @event.listens_for(database.db.engine, "before_cursor_execute", retval=True)
    def _unlock(_connection: object, _cursor: object, sql: str, values: object, *_: object) -> tuple[str, object]:
        return sql.replace("FOR KEY SHARE", ""), values


@pytest.mark.parametrize(
    "mutant",
    [read_no_warning, probe_without_a_lock],
    ids=["the warning of a COMMIT is not read", "what a lost COMMIT did is found out without a lock"],
)
def test_without_this_defence_the_bank_is_asked_too_early(
    servers: Pair, shop: Shop, mutant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant(monkeypatch)
    gateway = ScriptedGateway()
    press = purchase(order())
    servers.freeze()
    with disturbing(servers, "SELECT pg_cancel_backend(%s)"):
        protocol.pay(press, gateway, 3.0)
    assert gateway.keys == [str(press.token.key)]


def check_that_it_can_be_paid(servers: Pair, gateway: ScriptedGateway, press: Purchase) -> None:
    """Wake the standby and send the form again: it is the same claim, which is now asked for once."""
    servers.wake()
    paid = protocol.pay(press, gateway, 3.0)
    assert (paid.status, paid.receipt_id) == (Status.SUCCEEDED, press.receipt_id)
    assert gateway.keys == [str(press.token.key)]


def test_a_twin_that_finds_a_claim_that_no_standby_has_is_not_led_to_its_receipt(servers: Pair, shop: Shop) -> None:
    """Both find the row, and neither may use it. A probe that only reads would use it."""
    gateway, token = ScriptedGateway(), order()
    servers.freeze()
    for press in (purchase(token), purchase(token)):
        with pytest.raises(ClaimUnknown):
            protocol.pay(press, gateway, 3.0)
    assert gateway.asked == []


@pytest.mark.parametrize("work", ["record", "refund"])
def test_an_outcome_that_no_standby_has_is_not_confirmed(servers: Pair, shop: Shop, work: str) -> None:
    """The charge or refund stays pending for recovery, which asks under the same key."""
    token = order()
    if work == "record":
        charge = protocol.pay(purchase(token), ScriptedGateway(meanwhile=servers.freeze), 3.0)
        assert charge.status is Status.PROCESSING, "the record is on the primary alone, so it is not used"
        servers.wake()
        assert protocol.pay(purchase(token), ScriptedGateway(), 3.0).status is Status.SUCCEEDED
    else:
        charge = protocol.pay(purchase(token), ScriptedGateway(), 3.0)
        servers.freeze()
        with pytest.raises(Unreachable):
            refunds.claim(charge, 100, new_key(), 3.0)


def test_a_standby_that_is_only_slow_delays_the_claim(
    servers: Pair, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, token = ScriptedGateway(), order()
    servers.freeze()
    waking = Thread(target=lambda: (until(lambda: servers.primary.execute(WAITING), 30), servers.wake()), daemon=True)
    waking.start()
    monkeypatch.setattr(database, "COMMIT_SECONDS", 60.0)
    assert protocol.pay(purchase(token), gateway, 3.0).status is Status.SUCCEEDED
    waking.join(60)


def test_after_a_failover_the_order_is_paid_once(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """The claim was on the lost primary alone. The new primary does not have it, and the bank was not asked for it."""
    monkeypatch.setattr(database, "COMMIT_SECONDS", 0.5)
    with pair() as servers:
        name = servers.primary.create()
        migrate(servers.primary.url(name))
        before = Shop(servers.primary.url(name), tmp_path)  # type: ignore[arg-type]
        gateway = ScriptedGateway()
        with before.app.app_context():
            token = order()
            servers.freeze()
            with pytest.raises(ClaimUnknown):
                protocol.pay(purchase(token), gateway, 3.0)
            before.close()
        after = before.another(database_url=servers.promote().url(name))
        with after.app.app_context():
            assert after.charges() == {}
            assert protocol.pay(purchase(token), gateway, 3.0).status is Status.SUCCEEDED
            assert gateway.keys == [str(token.key)]
        after.close()
