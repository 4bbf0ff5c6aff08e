"""Disputes move money: the ledger holds what they withdraw, reinstate and cost, and the audit compares it."""

import httpx
import pytest

from app.charges.rows import ChargeSnapshot
from tests.page import Shopper
from tests.shops import Shop
from tests.stripe.provider import disputes
from tests.stripe.provider.server import Provider, deliver
from tests.stripe.webhooks.effects import COMPLETED
from tests.stripe.webhooks.paid import only_charge, run_audit

CREATED, CLOSED = "charge.dispute.created", "charge.dispute.closed"


@pytest.fixture
def charge(shop: Shop, provider: Provider, shopper: Shopper, hook: httpx.Client) -> ChargeSnapshot:
    provider.pay()
    assert deliver(hook, provider.event(COMPLETED)) == 200
    return only_charge(shop)


def moved(shop: Shop) -> dict[str, int]:
    """Return what disputes have moved at the gateway, by kind, in minor units."""
    query = "SELECT kind, sum(amount) FROM ledger_entry WHERE dispute_id IS NOT NULL AND account = 'gateway'"
    return {kind: int(amount) for kind, amount in shop.rows(f"{query} GROUP BY kind")}


@pytest.mark.parametrize("outcome", ["won", "lost"])
def test_a_dispute_is_recorded_from_its_beginning_to_its_end(
    shop: Shop, provider: Provider, hook: httpx.Client, charge: ChargeSnapshot, outcome: str
) -> None:
    dispute = disputes.open_(provider.state, provider.paid()[0])
    assert deliver(hook, provider.event(CREATED)) == 200
    assert moved(shop) == {"dispute": -charge.amount, "fee": -disputes.FEE}
    found = shop.rows("SELECT status, amount, fee, reason, evidence_due_at IS NOT NULL FROM dispute")
    assert found == [("open", charge.amount, disputes.FEE, "fraudulent", True)]
    report = run_audit(shop)
    assert (report.broken, report.disputed) == (
        {}, [f"charge {charge.id} open, dispute {dispute['id']}, fraudulent"]
    )  # fmt: skip
    disputes.close(provider.state, dispute, outcome)
    for event in reversed(provider.state.events):  # In any order, each once more.
        assert deliver(hook, event) == 200
    back = {"dispute_reversed": charge.amount} if outcome == "won" else {}
    assert moved(shop) == {"dispute": -charge.amount, "fee": -disputes.FEE} | back
    assert shop.rows("SELECT status, ended_at IS NOT NULL FROM dispute") == [(outcome, True)]
    report = run_audit(shop)
    assert (report.broken, len(report.disputed)) == ({}, 0 if outcome == "won" else 1)


def test_an_inquiry_moves_no_money(shop: Shop, provider: Provider, hook: httpx.Client, charge: ChargeSnapshot) -> None:
    dispute = disputes.open_(provider.state, provider.paid()[0], inquiry=True)
    assert deliver(hook, provider.event(CREATED)) == 200
    disputes.close(provider.state, dispute, "warning_closed")
    assert deliver(hook, provider.event(CLOSED)) == 200
    assert (moved(shop), shop.value("SELECT status FROM dispute")) == ({}, "won")
    assert run_audit(shop).broken == {}


def test_disputes_over_parts_of_a_payment_are_told_apart(
    shop: Shop, provider: Provider, hook: httpx.Client, charge: ChargeSnapshot
) -> None:
    for amount in (500, 700):
        disputes.open_(provider.state, provider.paid()[0], amount=amount)
    assert deliver(hook, provider.event("charge.dispute.funds_withdrawn")) == 200
    assert moved(shop) == {"dispute": -1200, "fee": -2 * disputes.FEE}
    assert run_audit(shop).broken == {}


def test_the_audit_reports_a_dispute_that_only_one_side_has(
    shop: Shop, provider: Provider, hook: httpx.Client, charge: ChargeSnapshot
) -> None:
    """Its event is lost; later the provider's statement lacks it."""
    disputes.open_(provider.state, provider.paid()[0])
    assert run_audit(shop).broken == {6: [f"charge {charge.id} dispute", f"charge {charge.id} fee"]}
    assert deliver(hook, provider.event(CREATED)) == 200
    assert run_audit(shop).broken == {}
    provider.state.disputes.clear()
    assert sorted(run_audit(shop).broken[6]) == [f"charge {charge.id} dispute", f"charge {charge.id} fee"]


def test_an_answer_from_before_the_end_does_not_open_a_dispute_again(
    shop: Shop, provider: Provider, hook: httpx.Client, charge: ChargeSnapshot
) -> None:
    """The provider is asked twice; the answer that was given first is recorded last."""
    dispute = disputes.open_(provider.state, provider.paid()[0])
    disputes.close(provider.state, dispute, "won")
    assert deliver(hook, provider.event(CLOSED)) == 200
    dispute["status"], dispute["balance_transactions"] = "needs_response", dispute["balance_transactions"][:1]
    assert deliver(hook, provider.event(CREATED)) == 200
    assert shop.value("SELECT status FROM dispute") == "won"
    assert moved(shop)["dispute_reversed"] == charge.amount
