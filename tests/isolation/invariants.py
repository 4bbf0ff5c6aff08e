"""The invariants after every schedule, checked with plain SQL and with the questions that the bank received."""

from collections import Counter
from uuid import UUID

from app.charges.protocol import ClaimUnknown
from app.charges.rows import ChargeSnapshot
from app.charges.states import LIVE, PENDING, WITHOUT_MONEY, WITHOUT_REFUND, sql_list
from app.database import Unreachable
from tests.isolation.actors import Broken
from tests.isolation.bank import Bank
from tests.isolation.stage import Stage

LIVE_, PENDING_, WITHOUT_MONEY_ = sql_list(LIVE), sql_list(PENDING), sql_list(WITHOUT_MONEY)

ROWS = {
    "an order has two live charges":
        f"SELECT FROM charge WHERE status IN ({LIVE_}) GROUP BY order_id HAVING count(*) > 1",
    "an order was paid twice":
        "SELECT FROM charge WHERE status = 'succeeded' GROUP BY order_id HAVING count(*) > 1",
    "an order is placed without a live charge, or open with one":
        f"""SELECT FROM orders WHERE (state = 'placed')
            <> EXISTS (SELECT FROM charge WHERE order_id = orders.id AND status IN ({LIVE_}))""",
    "a charge does not belong to the buyer of its order":
        "SELECT FROM charge JOIN orders ON orders.id = order_id WHERE charge.buyer_id <> orders.buyer_id",
    "what is missing from stock is not what live charges hold":
        f"""SELECT FROM product WHERE stock < 0 OR stocked - stock <> coalesce((SELECT sum(quantity)
            FROM charge_line JOIN charge ON charge.id = charge_id
            WHERE product_id = product.id AND status IN ({LIVE_})), 0)""",
    "a charge's lines are not its amount":
        """SELECT FROM charge WHERE amount <> coalesce((SELECT sum(quantity * unit_price)
           FROM charge_line WHERE charge_id = charge.id), 0)""",
    "a live charge is not entered under its fingerprint once":
        f"""SELECT FROM charge WHERE status IN ({LIVE_})
            AND 1 <> (SELECT count(*) FROM same_order_charge WHERE charge_id = charge.id)""",
    "the ledger does not sum to zero":
        "SELECT FROM ledger_entry GROUP BY charge_id, refund_id, kind, currency HAVING sum(amount) <> 0",
    "sales are not the amounts of succeeded charges less their refunds":
        """SELECT FROM charge WHERE CASE status WHEN 'succeeded' THEN amount ELSE 0 END
           - (SELECT coalesce(sum(amount), 0) FROM refund
              WHERE charge_id = charge.id AND status = 'succeeded' AND NOT stray)
           <> (SELECT coalesce(-sum(amount), 0) FROM ledger_entry WHERE charge_id = charge.id AND account = 'sales')""",
    "a succeeded charge does not owe one e-mail, or another one owes any":
        """SELECT FROM charge WHERE (status = 'succeeded')::int
           <> (SELECT count(*) FROM outbox_email WHERE charge_id = charge.id)""",
    "what is refunded is not what is promised, or exceeds the charge":
        f"""SELECT FROM charge WHERE refunded > amount OR refunded <> (SELECT coalesce(sum(amount), 0) FROM refund
            WHERE charge_id = charge.id AND NOT stray AND status NOT IN ({sql_list(WITHOUT_REFUND)}))""",
    "a charge that is not over without money has a stray payment":
        f"""SELECT FROM charge JOIN refund ON charge_id = charge.id
            WHERE stray AND charge.status NOT IN ({WITHOUT_MONEY_})""",
}  # fmt: skip

BROKEN_ROWS = " UNION ALL ".join(f"SELECT '{name}' WHERE EXISTS ({query})" for name, query in (
    (name.replace("'", "''"), query) for name, query in ROWS.items()
))  # fmt: skip

REFUNDS = "SELECT key::text, amount FROM refund WHERE status = 'succeeded' AND reason IS DISTINCT FROM 'at_the_gateway'"

CHARGES = """
SELECT replace(key::text, '-', ''), order_id, receipt_id, status,
       EXISTS (SELECT FROM refund WHERE charge_id = charge.id AND stray) FROM charge
"""


def check(stage: Stage, bank: Bank, receipts: list[str | None], *, settled: bool) -> None:
    """Raise Broken if a promise does not hold. `receipts` are the receipt ids of the actors that press Pay.

    `settled`: nothing is under way any more, so the shop's records must agree with the bank's.
    """
    if stage.deadlocks:
        raise Broken("deadlock (40P01)")
    if broken := stage.sql(BROKEN_ROWS):
        raise Broken("; ".join(name for (name,) in broken))
    rows = {UUID(key): row for key, *row in stage.sql(CHARGES)}
    _asked_once(bank, rows, receipts)
    _led_to_receipts(stage, rows, receipts)
    if settled:
        _agrees_with_the_bank(bank, rows)
        _refunds_agree(stage, bank)


def _asked_once(bank: Bank, rows: dict[UUID, list[object]], receipts: list[str | None]) -> None:
    asked: Counter[object] = Counter()
    for actor, key in bank.asked_by:
        if UUID(key) not in rows:
            raise Broken(f"{actor} asked the bank for {key}, which is no charge")
        _, receipt_id, *_ = rows[UUID(key)]
        if receipt_id != receipts[int(actor.split()[1])]:
            raise Broken(f"{actor} asked the bank, but the charge is another request's")
        asked[key] += 1
    if twice := [key for key, times in asked.items() if times > 1]:
        raise Broken(f"the bank was asked more than once for {twice}")


def _led_to_receipts(stage: Stage, rows: dict[UUID, list[object]], receipts: list[str | None]) -> None:
    """A request that got a charge is led to a receipt that exists. One that was refused has left nothing.

    One that lost the database does not know whether there is a charge.
    """
    for result, own in zip(stage.results, receipts, strict=True):
        if isinstance(result, ChargeSnapshot) and rows.get(result.key, [0, 0])[1] != result.receipt_id:
            raise Broken(f"led to receipt {result.receipt_id}, which does not exist")
        unknown = isinstance(result, Unreachable | ClaimUnknown)
        if isinstance(result, Exception) and not unknown and own in [row[1] for row in rows.values()]:
            raise Broken(f"refused by {type(result).__name__}, but there is a charge")


def _agrees_with_the_bank(bank: Bank, rows: dict[UUID, list[object]]) -> None:
    paid = {UUID(key) for key in bank.paid}
    orders: Counter[object] = Counter()
    for key, (order, _, status, stray) in rows.items():
        if status in PENDING:
            raise Broken(f"charge {key} is still {status}")
        if (key in paid) != (status == "succeeded" or bool(stray)):
            raise Broken(f"charge {key} is {status}, stray: {stray}, but the bank took {bank.paid}")
        orders[order] += key in paid and not stray
    if any(times > 1 for times in orders.values()):
        raise Broken("the bank took money twice for one order and nothing is owed back")


def _refunds_agree(stage: Stage, bank: Bank) -> None:
    """Each refund that succeeded moved its money at the bank, and no other did. Waiting stray refunds have not yet."""
    here = {str(UUID(key)): amount for key, amount in stage.sql(REFUNDS)}
    there = {key: amount for key, amount in bank.refunds_taken.items() if amount}
    if here != there:
        raise Broken(f"refunds are {here}, but at the bank {there}")
