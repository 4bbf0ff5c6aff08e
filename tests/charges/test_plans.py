"""How PostgreSQL finds the rows of each page and of each pass of recovery, in a shop with a long past.

The statements are those that the program sends. None of them may read a whole large table or index.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine, make_url

from app.charges import attention, receipts, recovery, refunds, same_order
from app.charges.tokens import new_key
from app.database import db
from app.mail import outbox
from tests import history
from tests.factories import ASKS_SHOPPER, ready_to_pay
from tests.postgres import Server
from tests.shops import Shop

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

PAYMENTS = 20_000
LARGE = {"charge", "charge_line", "ledger_entry", "order_line", "orders", "outbox_email", "refund"}
PARTIAL = "SELECT indexrelid::regclass::text FROM pg_index WHERE indpred IS NOT NULL AND NOT indisunique"

Statement = tuple[str, Any]


@pytest.fixture
def engine_name() -> str:
    return "postgresql"


@pytest.fixture
def database_url(own_url: str, postgres: Server) -> str:
    """A database with many payments, in which no table is analysed before it is full."""
    history.fill(postgres, str(make_url(own_url).database), history.PAYMENTS, PAYMENTS)
    return own_url


@contextmanager
def statements_of(engine: Engine) -> Iterator[list[Statement]]:
    """Collect what is sent to the database inside the block."""
    sent: list[Statement] = []

    def note(_connection: Any, _cursor: Any, text: str, values: Any, _context: Any, many: bool) -> None:
        sent.append((text, next(iter(values)) if many and not isinstance(values, dict) else values))

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", note)


def pay_and_recover(shop: Shop) -> None:
    """Do what shoppers, merchants and recovery do."""
    shopper = shop.shopper()
    form = ready_to_pay(shopper)
    receipt = form.submit()
    form.submit()
    for path in ("/checkout", "/receipts"):
        shopper.open(path)
    shop.shopper().open(receipt.path)
    unconfirmed = shop.shopper()
    ready_to_pay(unconfirmed, card_number=ASKS_SHOPPER).post()
    unconfirmed.open("/receipts")
    with shop.app.app_context():
        charge = receipts.find_charge(receipt.path.rpartition("/")[2])
        assert charge
        refunds.refund(charge, 100, shop.gateway, 3.0, new_key())
        recovery.run(shop.gateways, 3.0, 3600.0)  # type: ignore[arg-type]
        same_order.prune()
        outbox.run(lambda _email: None)


def watch(shop: Shop) -> None:
    """Do what monitoring does."""
    assert shop.shopper().client.get("/metrics").status_code == 200
    with shop.app.app_context():
        attention.numbers()


def scans(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the nodes of a plan that read a table or an index."""
    if "Scan" in plan["Node Type"]:
        yield plan
    for part in plan.get("Plans", ()):
        yield from scans(part)


def reads_all(scan: dict[str, Any], allowed: set[str]) -> bool:
    """Return whether it reads a whole large table, or an index of one from end to end that is not allowed."""
    if scan["Node Type"] == "Seq Scan":
        return scan["Relation Name"] in LARGE
    return "Index Name" in scan and "Index Cond" not in scan and scan["Index Name"] not in allowed


@pytest.mark.parametrize(("use", "partial"), [(pay_and_recover, False), (watch, True)], ids=["paying", "monitoring"])
def test_no_statement_reads_a_whole_table(shop: Shop, use: Callable[[Shop], None], partial: bool) -> None:
    """Monitoring may read the partial indexes of what is open from end to end. Dead entries make them long."""
    allowed = {name for (name,) in shop.rows(PARTIAL)} if partial else set()
    with shop.app.app_context():
        engine = db.engine
    with statements_of(engine) as sent:
        use(shop)
    statements = {text: values for text, values in sent if text.split()[0] in {"SELECT", "INSERT", "UPDATE", "DELETE"}}
    assert statements
    found = {}
    with engine.connect() as connection:
        for text, values in statements.items():
            [plan] = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {text}", values).scalar_one()
            found[text] = [scan for scan in scans(plan["Plan"]) if reads_all(scan, allowed)]
    assert {text: wrong for text, wrong in found.items() if wrong} == {}
