"""Refunds: once per key, never more than the charge, recovered if in doubt. Stray payments are refunded too."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask

from app.charges import protocol, refunds
from app.charges.refunds import NotRefundable
from app.charges.rows import ChargeSnapshot
from app.charges.states import CANCELED, DECLINED, IN_DOUBT, SUCCEEDED, RefundStatus
from app.database import Unreachable, db
from app.gateways.base import Answer, Card, NotSent, Outcome, Payment, RefundRequest, Unknown
from tests.factories import DECLINES, MUG, order, purchase
from tests.gateways.bank import at_once
from tests.recovery import recover, recover_and_audit, run_audit
from tests.shops import Shop

LINK = "http://127.0.0.1:8000/receipts/1"


class RefundsThrough:
    """The sandbox gateway, but `refund` calls the given function with the real gateway as first argument."""

    def __init__(self, shop: Shop, refund: Callable[[Any, RefundRequest, float], Answer]) -> None:
        self.inner: Any = shop.gateway
        self.make_refund = refund

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def refund(self, refund_request: RefundRequest, timeout: float) -> Answer:
        return self.make_refund(self.inner, refund_request, timeout)


def loses_answer(gateway: Any, refund_request: RefundRequest, timeout: float) -> Answer:
    gateway.refund(refund_request, timeout)
    raise Unknown("the bank did not answer in time")


def never_arrives(gateway: Any, refund_request: RefundRequest, timeout: float) -> Answer:
    raise Unknown("the bank did not answer in time")


def cannot_connect(gateway: Any, refund_request: RefundRequest, timeout: float) -> Answer:
    raise NotSent("the bank could not be reached")


def paid(shop: Shop, card: str = "4242 4242 4242 4242") -> ChargeSnapshot:
    """Pay €24.00 with this card and return the charge."""
    return protocol.pay(purchase(order({MUG: 1}), card, receipt_url=LINK), shop.gateway, 3.0)


def moved(shop: Shop) -> list[tuple[str, int]]:
    """Return (kind, amount) of every entry on the bank's statement."""
    return [(entry.kind, entry.amount) for entry in shop.statement()]


def at_gateway(shop: Shop) -> int:
    """Return the balance of the ledger account `gateway`, in minor units."""
    return int(shop.value("SELECT coalesce(sum(amount), 0) FROM ledger_entry WHERE account = 'gateway'"))


def refunded(shop: Shop) -> int:
    return int(shop.value("SELECT refunded FROM charge"))


def test_a_full_refund_reverses_the_ledger(app: Flask, shop: Shop) -> None:
    charge = paid(shop)
    assert refunds.refund(charge, 2400, shop.gateway, 3.0) is RefundStatus.SUCCEEDED
    assert moved(shop) == [("charge", 2400), ("refund", 2400)]
    assert (at_gateway(shop), refunded(shop), refunds.left(charge)) == (0, 2400, 0)
    assert shop.charges() == {SUCCEEDED: 1}
    recover_and_audit(shop)


def test_partial_refunds_until_nothing_is_left(app: Flask, shop: Shop) -> None:
    charge = paid(shop)
    for part, left in ((1000, 1400), (1399, 1), (1, 0)):
        assert refunds.refund(charge, part, shop.gateway, 3.0) is RefundStatus.SUCCEEDED
        assert refunds.left(charge) == left
    with pytest.raises(NotRefundable) as refused:
        refunds.refund(charge, 1, shop.gateway, 3.0)
    assert (refused.value.left, len(shop.statement()), at_gateway(shop)) == (0, 4, 0)
    recover_and_audit(shop)


@pytest.mark.parametrize("amount", [2401, 0, -1])
def test_an_amount_above_the_charge_or_not_above_zero_is_refused(app: Flask, shop: Shop, amount: int) -> None:
    charge = paid(shop)
    with pytest.raises(NotRefundable) as refused:
        refunds.refund(charge, amount, shop.gateway, 3.0)
    assert (refused.value.left, moved(shop)) == (2400, [("charge", 2400)])
    assert shop.value("SELECT count(*) FROM refund") == 0
    recover_and_audit(shop)


def test_a_charge_without_money_cannot_be_refunded(app: Flask, shop: Shop) -> None:
    with pytest.raises(NotRefundable) as refused:
        refunds.refund(paid(shop, DECLINES), 2400, shop.gateway, 3.0)
    assert (refused.value.left, moved(shop)) == (0, [])


@pytest.mark.slow
def test_twins_refund_once(app: Flask, shop: Shop) -> None:
    charge, key = paid(shop), uuid4()

    def press() -> Any:
        with shop.app.app_context():
            return refunds.refund(charge, 1000, shop.gateway, 3.0, key)

    assert set(at_once(*[press] * 6)) == {SUCCEEDED}
    assert press() is RefundStatus.SUCCEEDED
    assert moved(shop) == [("charge", 2400), ("refund", 1000)]
    assert (at_gateway(shop), refunded(shop)) == (1400, 1000)
    recover_and_audit(shop)


@pytest.mark.slow
def test_simultaneous_refunds_never_exceed_the_charge(app: Flask, shop: Shop) -> None:
    charge = paid(shop)

    def press() -> Any:
        with shop.app.app_context():
            return refunds.refund(charge, 1000, shop.gateway, 3.0)

    results = at_once(*[press] * 6)
    assert [result for result in results if not isinstance(result, NotRefundable)] == [SUCCEEDED] * 2
    assert moved(shop) == [("charge", 2400), ("refund", 1000), ("refund", 1000)]
    recover_and_audit(shop)


@pytest.mark.parametrize("broken_refund", [loses_answer, never_arrives, cannot_connect])
def test_a_refund_in_doubt_reserves_its_amount_until_it_is_recovered(
    app: Flask, shop: Shop, broken_refund: Any
) -> None:
    charge = paid(shop)
    assert refunds.refund(charge, 2400, RefundsThrough(shop, broken_refund), 3.0) is RefundStatus.IN_DOUBT  # type: ignore[arg-type]
    assert shop.rows("SELECT status, note IS NOT NULL FROM refund") == [(IN_DOUBT, True)]
    assert (refunds.left(charge), at_gateway(shop)) == (0, 2400)
    with pytest.raises(NotRefundable):
        refunds.refund(charge, 1, shop.gateway, 3.0)
    recover_and_audit(shop)
    assert moved(shop) == [("charge", 2400), ("refund", 2400)]
    assert (at_gateway(shop), refunded(shop)) == (0, 2400)


def test_a_refund_whose_process_died_after_the_claim_is_made_by_recovery(app: Flask, shop: Shop) -> None:
    charge = paid(shop)
    refunds.claim(charge, 700, uuid4(), 3.0)
    recover_and_audit(shop)
    assert moved(shop) == [("charge", 2400), ("refund", 700)]


def test_a_declined_refund_releases_its_amount(app: Flask, shop: Shop) -> None:
    """An earlier refund was made at the bank directly, so the bank has less left than our ledger says."""
    charge = paid(shop)
    shop.gateway.refund(RefundRequest("made-by-hand", 2000, charge.payment), 3.0)
    assert refunds.refund(charge, 2400, shop.gateway, 3.0) is RefundStatus.DECLINED
    assert shop.rows("SELECT status, reason FROM refund") == [(DECLINED, "more_than_is_left")]
    assert (refunds.left(charge), at_gateway(shop)) == (2400, 2400)
    assert run_audit(shop).broken == {3: ["refund made-by-hand is not in the books"]}


def test_no_connection_is_held_while_the_bank_is_asked(app: Flask, shop: Shop) -> None:
    held = []

    def look(gateway: Any, refund_request: RefundRequest, timeout: float) -> Answer:
        held.append(db.engine.pool.checkedout())  # type: ignore[attr-defined]
        answer: Answer = gateway.refund(refund_request, timeout)
        return answer

    refunds.refund(paid(shop), 2400, RefundsThrough(shop, look), 3.0)  # type: ignore[arg-type]
    assert held == [0]


class WithoutFence:
    """A gateway whose `cancel` fences nothing. `during` is called before each charge, for example to run recovery."""

    def __init__(self, shop: Shop, during: Callable[[], Any]) -> None:
        self.inner: Any = shop.gateway
        self.during = during
        shop.gateways.use(self)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def charge(self, payment: Payment, card: Card | None, timeout: float) -> Answer:
        self.during()
        answer: Answer = self.inner.charge(payment, card, timeout)
        return answer

    def cancel(self, payment: Payment, timeout: float) -> Answer:
        return Answer(Outcome.CANCELED)


def test_a_stray_payment_is_listed_and_refunded_by_recovery(app: Flask, shop: Shop) -> None:
    """Recovery cancels a slow charge at a gateway that fences nothing. After that, the gateway takes the money."""
    gateway = WithoutFence(shop, lambda: recover(shop))
    charge = protocol.pay(purchase(order({MUG: 1}), receipt_url=LINK), gateway, 3.0)  # type: ignore[arg-type]
    assert charge.status is CANCELED
    assert moved(shop) == [("charge", 2400)]
    assert shop.rows("SELECT amount, status, stray FROM refund") == [(2400, "processing", True)]
    report = run_audit(shop)
    assert list(report.broken) == [4]
    assert report.stray == [f"charge {charge.id} canceled took money; its refund 1 processing"]

    recover(shop)
    assert moved(shop) == [("charge", 2400), ("refund", 2400)]
    assert shop.value("SELECT key FROM refund") != shop.value("SELECT key FROM charge")
    report = recover_and_audit(shop)
    assert report.stray == [f"charge {charge.id} canceled took money; its refund 1 succeeded"]
    assert (at_gateway(shop), shop.value("SELECT state FROM orders")) == (0, "open")


def test_a_stray_payment_reported_twice_is_refunded_once(app: Flask, shop: Shop) -> None:
    gateway = WithoutFence(shop, lambda: recover(shop))
    charge = protocol.pay(purchase(order(), receipt_url=LINK), gateway, 3.0)  # type: ignore[arg-type]
    for _ in range(2):
        protocol.record(charge, Answer(Outcome.SUCCEEDED))
        recover_and_audit(shop)
    assert [kind for kind, _ in moved(shop)] == ["charge", "refund"]


def command(shop: Shop, *options: str) -> tuple[int, str]:
    """Run `flask refund`. Return its exit code and its last line of output, which comes after the log lines."""
    result = shop.app.test_cli_runner().invoke(args=["refund", *options])
    return result.exit_code, result.output.splitlines()[-1]


def test_the_command_reports_the_outcome(app: Flask, shop: Shop) -> None:
    receipt_id = str(paid(shop).receipt_id)
    assert command(shop, receipt_id, "--amount", "4.50") == (0, "€4.50: succeeded")
    assert command(shop, receipt_id, "--amount", "19.51") == (1, "Error: nothing was refunded: €19.50 can be")
    assert command(shop, receipt_id, "--amount", "0.005")[0] == 1
    assert command(shop, receipt_id, "--amount", "much")[0] == 1
    assert command(shop, receipt_id) == (0, "€19.50: succeeded")
    assert command(shop, receipt_id) == (1, "Error: nothing was refunded: €0.00 can be")
    assert command(shop, str(uuid4())) == (1, "Error: there is no such receipt")
    assert [amount for _, amount in moved(shop)] == [2400, 450, 1950]


def test_the_command_distinguishes_doubt_from_a_declined_refund(app: Flask, shop: Shop) -> None:
    charge = paid(shop)
    broken: Any = RefundsThrough(shop, never_arrives)
    shop.gateways.use(broken)
    assert command(shop, str(charge.receipt_id), "--amount", "4") == (3, "€4.00: in_doubt")
    shop.gateways.use(shop.gateway)
    recover_and_audit(shop)
    shop.gateway.refund(RefundRequest("made-by-hand", 1900, charge.payment), 3.0)
    assert command(shop, str(charge.receipt_id), "--amount", "20") == (1, "€20.00: declined")


@pytest.mark.parametrize("step", ["claim", "_record"])
def test_the_command_reports_an_unknown_outcome_if_the_database_is_lost(
    app: Flask, shop: Shop, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 1 ("nothing was refunded") invites a second refund. After a lost commit it would be wrong."""
    charge, real = paid(shop), getattr(refunds, step)

    def lose_connection(*values: Any, **options: Any) -> Any:
        real(*values, **options)
        raise Unreachable("OperationalError")

    monkeypatch.setattr(refunds, step, lose_connection)
    code, line = command(shop, str(charge.receipt_id), "--amount", "4")
    assert (code, "repeat it only with --key" in line) == (3, True)
    monkeypatch.undo()
    recover_and_audit(shop)
    assert moved(shop) == [("charge", 2400), ("refund", 400)]
