"""A synchronous standby that is silent: the bank is never asked for a claim that a failover would lose.

PostgreSQL answers a COMMIT whose wait for the standby was cancelled with success and a warning. Nothing here is
replaced: both servers are real, and the standby is frozen with SIGSTOP, so that no connection is closed.
"""

from collections.abc import Iterator
from threading import Thread

import pytest

from app import database
from app.charges import protocol, refunds
from app.charges.protocol import ClaimUnknown
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


def while_waiting(servers: Pair, sql: str) -> Thread:
    """Do something to each backend that waits for the standby, until two commits have been disturbed."""

    def disturb() -> None:
        for _ in range(2):
            until(lambda: servers.primary.execute(WAITING), 30)
            for (pid,) in servers.primary.execute(WAITING):
                servers.primary.execute(sql, pid)
            until(lambda pid=pid: (pid,) not in servers.primary.execute(WAITING), 30)

    thread = Thread(target=disturb, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("sql", ["", "SELECT pg_cancel_backend(%s)", "SELECT pg_terminate_backend(%s)"])
def test_a_claim_that_no_standby_has_is_never_asked_for(servers: Pair, shop: Shop, sql: str) -> None:
    gateway, token = ScriptedGateway(), order()
    press = purchase(token)
    servers.freeze()
    disturbing = while_waiting(servers, sql) if sql else None
    with pytest.raises(ClaimUnknown):
        protocol.pay(press, gateway, 3.0)
    assert gateway.asked == []
    servers.wake()
    if disturbing:
        disturbing.join(60)
    paid = protocol.pay(press, gateway, 3.0)
    assert (paid.status, paid.receipt_id, gateway.keys) == (Status.SUCCEEDED, press.receipt_id, [str(token.key)])


def test_a_twin_that_finds_a_claim_that_no_standby_has_is_not_led_to_its_receipt(servers: Pair, shop: Shop) -> None:
    """Both know the row; neither may promise it. This is what a probe that only reads would get wrong."""
    gateway, token = ScriptedGateway(), order()
    servers.freeze()
    for press in (purchase(token), purchase(token)):
        with pytest.raises(ClaimUnknown):
            protocol.pay(press, gateway, 3.0)
    assert gateway.asked == []


@pytest.mark.parametrize("work", ["record", "refund"])
def test_an_outcome_that_no_standby_has_is_not_confirmed(servers: Pair, shop: Shop, work: str) -> None:
    """It stays for recovery, which asks under the same key."""
    token = order()
    if work == "record":
        charge = protocol.pay(purchase(token), ScriptedGateway(meanwhile=servers.freeze), 3.0)
        assert charge.status is Status.PROCESSING, "recorded on the primary alone, so not promised"
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
    """The claim was on the lost primary alone. The new primary has never seen it, and the bank was not asked for it."""
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
