"""Only the process that recorded an outcome logs it."""

import json

import pytest
from flask import Flask

from app.charges import protocol
from app.charges.protocol import ChargeSnapshot
from app.database import transaction
from app.gateways.base import Answer, Outcome
from tests.charges.gateways import ScriptedGateway
from tests.factories import order, purchase
from tests.shops import Shop

SUCCESS, DECLINE = Answer(Outcome.SUCCEEDED), Answer(Outcome.DECLINED)


@pytest.fixture
def charge(app: Flask) -> ChargeSnapshot:
    return protocol.claim(purchase(order()), ScriptedGateway(), 3)


def events(capfd: pytest.CaptureFixture[str]) -> list[str]:
    """Return the names of the log events since the last call."""
    return [json.loads(line)["event"] for line in capfd.readouterr().err.splitlines() if line.startswith("{")]


def test_an_outcome_is_logged_only_by_its_first_record(
    charge: ChargeSnapshot, capfd: pytest.CaptureFixture[str]
) -> None:
    protocol.record(charge, SUCCESS)
    protocol.record(charge, SUCCESS)
    protocol.record(charge, DECLINE)
    assert events(capfd) == ["charge_succeeded"]


def test_a_stray_payment_is_logged_once(charge: ChargeSnapshot, capfd: pytest.CaptureFixture[str]) -> None:
    declined = protocol.record(charge, DECLINE)
    for _ in range(2):
        protocol.record(declined, SUCCESS)
    assert events(capfd) == ["charge_declined", "charge_stray"]


def test_an_outcome_that_is_rolled_back_is_not_logged(
    shop: Shop, charge: ChargeSnapshot, capfd: pytest.CaptureFixture[str]
) -> None:
    """The caller logs after its commit. Here the transaction is rolled back, as it can be in a webhook."""
    with pytest.raises(ZeroDivisionError), transaction() as tx:
        recorded = protocol.record_within(tx, charge, SUCCESS)
        raise ZeroDivisionError
    assert recorded.event == "charge_succeeded"
    assert (events(capfd), shop.charges()) == ([], {"processing": 1})
