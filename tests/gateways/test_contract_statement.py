"""For every gateway: the statement has each movement of money once, and says whose it is."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from app.gateways.base import Outcome, StatementEntry
from tests.factories import SHOP_ID
from tests.gateways.contract import AMOUNT, COUNTERPARTS, TIMEOUT, Counterpart, part_of


@pytest.fixture(scope="module", params=COUNTERPARTS, ids=[counterpart.name for counterpart in COUNTERPARTS])
def counterpart(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counterpart]:
    with request.param(tmp_path_factory.mktemp(request.param.name)) as counterpart:
        yield counterpart


@pytest.mark.parametrize("currency", ["EUR", "JPY", "KWD", "ISK"])
def test_the_statement_has_each_movement_once(counterpart: Counterpart, currency: str) -> None:
    """Amounts are in our minor units, times in UTC. Payments that took no money are not in the statement."""
    gateway = counterpart.client()
    waiting, _ = counterpart.waiting(currency=currency)
    payments = [counterpart.paid(currency=currency) for _ in range(3)]
    refunds = [part_of(payments[0], 1230), part_of(payments[0], 450), part_of(payments[1], AMOUNT)]
    for refund in refunds:
        assert gateway.refund(refund, TIMEOUT).outcome is Outcome.SUCCEEDED
    expected = [(payment.key, "charge", AMOUNT, currency) for payment in payments]
    expected += [(refund.key, "refund", refund.amount, currency) for refund in refunds]
    keys = {waiting.key, *(key for key, *_ in expected)}
    entries = [entry for entry in gateway.statement() if entry.key in keys]
    assert sorted(map(fields, entries)) == sorted(expected)
    assert {entry.at.utcoffset() for entry in entries} == {timedelta(0)}
    assert len(counterpart.moved(*keys)) == len(entries)


def test_every_entry_bears_our_shop_id_and_names_its_payment(counterpart: Counterpart) -> None:
    """So money that the books have lost is known to be ours, and a refund leads to its charge."""
    gateway, payment = counterpart.client(), counterpart.paid()
    refund = part_of(payment, 1230)
    assert gateway.refund(refund, TIMEOUT).outcome is Outcome.SUCCEEDED
    charged, refunded = (
        next(entry for entry in gateway.statement() if entry.key == key) for key in (payment.key, refund.key)
    )
    assert charged.shop_id == refunded.shop_id == SHOP_ID
    assert charged.payment_reference and charged.payment_reference == refunded.payment_reference


def fields(entry: StatementEntry) -> tuple[str, str, int, str]:
    return entry.key, entry.kind, entry.amount, entry.currency
