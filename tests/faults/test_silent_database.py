"""PostgreSQL falls silent: connections stay open and nothing arrives. Nobody is charged twice or waits for ever.

The silent twins of `test_commits.py`, `test_storage.py` and `test_kills.py`, where sockets are closed. A proxy or a
network namespace replaces the network. Most limits are shorter than in the shop, in the same order.
"""

from collections.abc import Callable, Iterator
from random import Random

import pytest
from sqlalchemy import event

from app.database import db
from tests.factories import checkout_form, ready_to_pay
from tests.faults.leaks import assert_no_connection_leaked
from tests.faults.rounds import TIMES
from tests.gateways.bank import at_once, until
from tests.page import Form, Page
from tests.postgres import Cluster
from tests.recovery import recover_and_audit
from tests.shops import Shop
from tests.silence import AFTER, BEFORE, Line, line, shorten_limits, socket_of

# A thread ends a test that hangs, because the driver does not let a signal end its wait.
pytestmark = [pytest.mark.slow, pytest.mark.postgres, pytest.mark.timeout(180 + 60 * TIMES, method="thread")]

CLAIM, RECORD = b"INSERT INTO charge (", b"INSERT INTO ledger_entry"
WAIT, CONFIRMING, NOTHING = (
    "Please wait before you pay again", "Your payment is being confirmed", "Nothing was charged",
)  # fmt: skip
LIMITS = {"lock_timeout": 500, "idle_in_transaction_session_timeout": 1500}
"""PostgreSQL's, in milliseconds. A lock is held longer than anybody waits for it, as in the shop."""


@pytest.fixture
def short_limits(cluster: Cluster, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, milliseconds in LIMITS.items():
        cluster.execute(f'ALTER DATABASE "{database}" SET {name} = {milliseconds}')
    shorten_limits(monkeypatch)


@pytest.fixture
def proxy(cluster: Cluster) -> Iterator[Line]:
    with line(socket_of(cluster)) as proxy:
        yield proxy


@pytest.fixture
def shop(short_limits: None, open_shop: Callable[..., Shop], proxy: Line, cluster: Cluster, database: str) -> Shop:
    return open_shop(proxy.url(cluster.url(database)))


def accepted(form: Form) -> Page:
    """Send the form until it is accepted. Until then, each page says that this try took no money."""
    pages = []

    def is_accepted() -> bool:
        page = form.submit()
        pages.append(page)
        assert page.status in (200, 503), page.text
        return page.status == 200

    until(is_accepted, 60)
    return pages[-1]


def settle(shop: Shop, form: Form, payments: int = 1) -> None:
    """Send the form again, recover and audit. In the end this shopper has paid once, and all `payments` times."""
    page = accepted(form)
    recover_and_audit(shop)
    if page.reload().heading == NOTHING:  # The claim was committed, and nobody knew, so the bank was not asked.
        page = accepted(checkout_form(form.page.shopper))
        recover_and_audit(shop)
    assert page.reload().heading == "Paid: €24.00"
    assert len(shop.statement()) == payments


def assert_nothing_hangs(shop: Shop, cluster: Cluster, database: str, pools: int = 1) -> None:
    """Fail if a connection is in use or a transaction is open, in this process or at the server."""
    with shop.app.app_context():
        assert db.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    assert_no_connection_leaked(cluster, database, pools)


@pytest.mark.parametrize("others_too", [False, True], ids=["one connection", "all"])
@pytest.mark.parametrize(("mark", "side"), [(b"UPDATE product", BEFORE), (b"COMMIT", BEFORE), (b"COMMIT", AFTER)])
def test_a_claim_in_silence_is_never_charged_twice(
    shop: Shop, proxy: Line, cluster: Cluster, database: str, mark: bytes, side: str, others_too: bool
) -> None:
    """The bank is not asked for a claim that may not exist. Data that was sent may arrive after the silence.

    If only one connection is silent, another one finds out, if PostgreSQL has ended the silent transaction by then.
    """
    form = ready_to_pay(shop.shopper())
    proxy.silence_at(CLAIM, mark, side=side, others_too=others_too)
    page = form.submit()
    assert proxy.silences == 1
    if others_too or page.heading != "Paid: €24.00":
        assert (page.status, page.heading) == (503, WAIT)
        assert "The bank was not asked, so this try took no money." in page.text
        assert shop.statement() == []
    if others_too:
        proxy.restore()
    settle(shop, form)
    assert_nothing_hangs(shop, cluster, database)


@pytest.mark.parametrize("others_too", [False, True], ids=["one connection", "all"])
@pytest.mark.parametrize(("mark", "side"), [(b"COMMIT", BEFORE), (b"COMMIT", AFTER)])
def test_a_record_in_silence_is_made_later(
    shop: Shop, proxy: Line, cluster: Cluster, database: str, mark: bytes, side: str, others_too: bool
) -> None:
    """The money was taken, and the shopper is redirected to the receipt, which never says that nothing was charged."""
    shopper = shop.shopper()
    form = ready_to_pay(shopper)
    proxy.silence_at(RECORD, mark, side=side, others_too=others_too)
    response = form.post()
    assert proxy.silences == 1
    assert (response.status_code, response.headers["Location"].startswith("/receipts/")) == (303, True)
    receipt = shopper.open(response.headers["Location"])
    if others_too:
        assert (receipt.status, receipt.heading) == (503, "We can't look up this payment right now")
        assert "Do not pay again." in receipt.text
        proxy.restore()
    assert receipt.reload().heading in {CONFIRMING, "Paid: €24.00"}
    recover_and_audit(shop)
    assert receipt.reload().heading == "Paid: €24.00"
    settle(shop, form)
    assert_nothing_hangs(shop, cluster, database)


def test_silence_at_any_statement_of_a_payment(shop: Shop, proxy: Line, cluster: Cluster, database: str) -> None:
    """A few statements in `make test`, chosen by chance, and many in `make soak`."""
    statements, rng = statements_of_a_payment(shop), Random()
    chosen = [(rng.choice(statements), rng.choice([BEFORE, AFTER])) for _ in range(2 * TIMES)]
    print(chosen)
    for number, (statement, side) in enumerate(chosen, start=1):
        form = ready_to_pay(shop.shopper(), email=f"{number}@example.org")
        proxy.silence_at(statement, side=side)
        assert form.submit().status in (200, 503)
        assert proxy.silences == number
        proxy.restore()
        settle(shop, form, payments=number + 1)
    assert_nothing_hangs(shop, cluster, database)


def statements_of_a_payment(shop: Shop) -> list[bytes]:
    """Pay once. Return the beginning of each statement that the database saw from the form to the receipt."""
    form, seen = ready_to_pay(shop.shopper(), email="first@example.org"), list[bytes]()
    with shop.app.app_context():

        def see(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            seen.append(statement.partition("%(")[0][:60].encode())

        event.listen(db.engine, "before_cursor_execute", see)
        assert form.submit().heading == "Paid: €24.00"
        event.remove(db.engine, "before_cursor_execute", see)
    return seen


def readyz(shop: Shop) -> int:
    return shop.shopper().client.get("/readyz").status_code


def test_the_shop_reports_a_silent_database_and_works_when_it_is_back(
    shop: Shop, proxy: Line, cluster: Cluster, database: str
) -> None:
    """All at once, so that many wait. Afterwards the same process and the same form work."""
    paid = ready_to_pay(shop.shopper(), email="first@example.org").submit()
    form = ready_to_pay(shop.shopper())
    for _ in range(TIMES):
        proxy.go_silent()
        pages = [lambda path=path: shop.shopper().open(path).status for path in ("/", "/basket", "/checkout")]  # type: ignore[misc]
        *statuses, healthz, refused, receipt = at_once(
            *pages, *[lambda: readyz(shop)] * 4, lambda: shop.shopper().client.get("/healthz").status_code,
            form.submit, paid.reload,
        )  # fmt: skip
        assert (set(statuses), healthz) == ({503}, 200)
        assert (refused.status, receipt.status) == (503, 503)
        assert "took no money" in refused.text
        assert "Do not pay again." in receipt.text
        proxy.restore()
        until(lambda: readyz(shop) == 200)
        assert paid.reload().heading == "Paid: €24.00"
    assert accepted(form).heading == "Paid: €24.00"
    assert len(shop.statement()) == 2
    recover_and_audit(shop)
    assert_nothing_hangs(shop, cluster, database)


def test_the_shop_starts_with_a_silent_database(
    short_limits: None, proxy: Line, cluster: Cluster, database: str, tmp_path: object
) -> None:
    proxy.go_silent()
    shop = Shop(proxy.url(cluster.url(database)), tmp_path)  # type: ignore[arg-type]
    assert readyz(shop) == 503
    proxy.restore()
    assert readyz(shop) == 200
    assert ready_to_pay(shop.shopper()).submit().heading == "Paid: €24.00"
    recover_and_audit(shop)
    shop.close()


def test_connections_that_fall_silent_during_payments(shop: Shop, proxy: Line, cluster: Cluster, database: str) -> None:
    """A firewall forgets all open connections at any moment. The form that is sent again never pays twice."""
    for number in range(3 * TIMES):
        form = ready_to_pay(shop.shopper(), email=f"{number}@example.org")
        at_once(form.submit, *[proxy.forget] * 3)
        accepted(form)
    recover_and_audit(shop)
    assert sum(shop.charges().values()) == 3 * TIMES
    assert len(shop.statement()) == shop.charges()["succeeded"] > 0
    assert_nothing_hangs(shop, cluster, database)


def test_a_host_that_loses_the_database_inside_a_claim_does_not_stop_the_other_host(
    open_shop: Callable[..., Shop], cluster: Cluster, database: str
) -> None:
    """The link of one host goes down while its transaction has locked the product that everybody buys.

    All limits are the shop's own. PostgreSQL ends the silent transaction, and the other host sells again. The shopper
    of the lost host reads that the bank was not asked. The link is back, and its form is paid once.
    """
    other = open_shop(cluster.url(database))
    with line(socket_of(cluster), "wire") as wire:
        lost = other.another(database_url=wire.url(cluster.url(database)))
        forms = [ready_to_pay(lost.shopper(), email="lost@example.org"), ready_to_pay(other.shopper())]
        wire.silence_at(CLAIM, b"UPDATE product", side=AFTER)
        page, bought, catalogue = at_once(
            forms[0].submit,
            lambda: (until(lambda: wire.silences), accepted(forms[1]))[1],
            lambda: (until(lambda: wire.silences), other.shopper().open("/").status)[1],
        )
        assert (page.status, page.heading) == (503, WAIT)
        assert (bought.heading, catalogue) == ("Paid: €24.00", 200)
        wire.restore()
        assert accepted(forms[0]).heading == "Paid: €24.00"
        recover_and_audit(other)
        assert other.charges() == {"succeeded": 2}
        assert_nothing_hangs(lost, cluster, database, pools=2)
