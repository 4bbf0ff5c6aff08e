"""Paying on the provider's page: every way through it leads to one session, one charge and one receipt."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from time import time

import pytest

from app.charges import protocol, receipts
from app.charges.models import Charge
from app.database import db
from app.gateways.base import Answer, NotSent
from app.gateways.stripe import requests
from app.gateways.stripe.gateway import StripeGateway
from app.leases import LONGEST
from tests.factories import MUG, change_product, fill_basket
from tests.page import Form, Shopper
from tests.shops import Shop
from tests.stripe.provider.server import Provider
from tests.stripe.provider.state import ASKS, DECLINES

CREATE = "POST /v1/checkout/sessions"


def form_of(shopper: Shopper) -> Form:
    """Fill a basket. Return the checkout form, filled in."""
    fill_basket(shopper)
    return open_form(shopper)


def open_form(shopper: Shopper) -> Form:
    """Open the checkout form, which has no card fields. Return it filled in."""
    form = shopper.open("/checkout").form("Continue to pay")
    assert not {"card_number", "card_expiry", "card_cvc"} & set(form.fields)
    return form.fill(email="ada@example.org", name="Ada Example")


def test_a_shopper_pays_on_the_providers_page(shop: Shop, provider: Provider) -> None:
    shopper = shop.shopper()
    answer = form_of(shopper).post()
    assert (answer.status_code, answer.headers["Location"]) == (303, provider.session["url"])
    assert f"form-action 'self' {provider.origin};" in answer.headers["Content-Security-Policy"]
    assert provider.pay() == "paid"
    page = shopper.open(provider.session["success_url"])
    assert page.title.startswith("Paid")
    assert (shop.charges(), len(provider.paid())) == ({"succeeded": 1}, 1)
    assert shop.value("SELECT count(*) FROM ledger_entry") == 2


def test_the_return_url_alone_changes_nothing(shop: Shop, provider: Provider) -> None:
    shopper = shop.shopper()
    form_of(shopper).post()
    for _ in range(3):
        page = shopper.open(provider.session["success_url"])
        assert page.heading == "Your payment waits for you"
    assert shop.charges() == {"requires_action": 1}
    stranger = shop.shopper().open(provider.session["success_url"])
    assert "Continue" not in stranger.links
    assert shop.charges() == {"requires_action": 1}


def test_twenty_twins_create_one_session(shop: Shop, provider: Provider) -> None:
    shopper = shop.shopper()
    form = form_of(shopper)
    with ThreadPoolExecutor(20) as pool:
        twins = [pool.submit(shop.shopper(like=shopper).post, form.action, form.fields) for _ in range(20)]
    answers = [twin.result() for twin in twins]
    assert {answer.status_code for answer in answers} == {303}
    assert (provider.calls(CREATE), len(provider.state.sessions), shop.charges().total()) == (1, 1, 1)


def test_two_tabs_create_one_session(shop: Shop, provider: Provider) -> None:
    shopper = shop.shopper()
    first, second = form_of(shopper), open_form(shopper)
    first.post()
    page = second.submit()
    assert page.heading == "Your payment waits for you"
    assert page.links["Continue to the payment page"] == provider.session["url"]
    assert len(provider.state.sessions) == 1
    provider.pay()
    assert second.submit().title.startswith("Paid")
    assert len(provider.paid()) == 1


def test_a_shopper_who_goes_back_continues_in_the_same_session(shop: Shop, provider: Provider) -> None:
    shopper = shop.shopper()
    form = form_of(shopper)
    form.post()
    for page in (form.submit(), shopper.open("/checkout"), shopper.open("/basket")):
        assert page.links["Continue to the payment page"] == provider.session["url"]
    assert len(provider.state.sessions) == 1


def test_a_declined_card_can_be_replaced_on_the_providers_page(shop: Shop, provider: Provider) -> None:
    shopper = shop.shopper()
    form_of(shopper).post()
    assert provider.pay(number=DECLINES) == "declined"
    assert shopper.open(provider.session["success_url"]).heading == "Your payment waits for you"
    assert provider.pay() == "paid"
    assert shopper.open(provider.session["success_url"]).title.startswith("Paid")


def test_3d_secure_on_the_providers_page(shop: Shop, provider: Provider) -> None:
    shopper = shop.shopper()
    url = form_of(shopper).post().headers["Location"]
    assert provider.pay(number=ASKS) == "asks"
    assert shopper.open(provider.session["success_url"]).links["Continue to the payment page"] == url
    assert provider.pay() == "paid"
    assert shopper.open(provider.session["success_url"]).title.startswith("Paid")


def test_a_cancelled_payment_is_expired_at_the_provider_first(shop: Shop, provider: Provider) -> None:
    shopper = shop.shopper()
    form_of(shopper).post()
    before = shop.stock(MUG)
    page = shopper.open(provider.session["success_url"]).submit("Give this payment up")
    assert page.heading == "Nothing was charged"
    assert (provider.session["status"], provider.pay()) == ("expired", "over")
    assert shop.stock(MUG) == before + 1
    assert open_form(shopper).post().status_code == 303
    assert sorted(session["status"] for session in provider.state.sessions.values()) == ["expired", "open"]


def test_a_payment_cancelled_just_after_it_was_paid_stays_paid(shop: Shop, provider: Provider) -> None:
    shopper = shop.shopper()
    form_of(shopper).post()
    waiting = shopper.open(provider.session["success_url"])
    provider.pay()
    assert waiting.submit("Give this payment up").title.startswith("Paid")
    assert (shop.charges(), len(provider.paid())) == ({"succeeded": 1}, 1)


def test_cancelling_while_the_provider_is_unreachable_changes_nothing(shop: Shop, provider: Provider) -> None:
    shopper = shop.shopper()
    form_of(shopper).post()
    waiting = shopper.open(provider.session["success_url"])
    provider.fault("", "not_received", times=9)
    assert waiting.submit("Give this payment up").heading == "Your payment waits for you"
    assert (shop.charges(), provider.session["status"]) == ({"requires_action": 1}, "open")


def test_recovery_cancels_an_abandoned_payment(shop: Shop, provider: Provider, recover: Callable[..., int]) -> None:
    shopper = shop.shopper()
    form_of(shopper).post()
    recover()
    assert shop.charges() == {"requires_action": 1}
    recover(window=-5.0)
    assert (shop.charges(), provider.session["status"]) == ({"canceled": 1}, "expired")
    assert shopper.open(provider.session["success_url"]).heading == "Nothing was charged"


def test_a_session_that_expired_by_itself_cancels_the_charge(shop: Shop, provider: Provider) -> None:
    shopper = shop.shopper()
    form_of(shopper).post()
    provider.state.ahead = 24 * 3600
    assert shopper.open(provider.session["success_url"]).heading == "Nothing was charged"
    assert shop.charges() == {"canceled": 1}


@pytest.mark.parametrize("was_asked", [False, True])
def test_a_worker_killed_before_or_after_asking_leaves_one_session(
    shop: Shop, provider: Provider, gateway: StripeGateway, recover: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch, was_asked: bool,
) -> None:  # fmt: skip
    """The worker dies after the claim, or after the session was created and before it is recorded."""

    class Killed(BaseException):
        pass

    def die(*_: object) -> object:
        raise Killed

    shopper = shop.shopper()
    form = form_of(shopper)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(protocol, "record" if was_asked else "ask", die)
        form.post()
    assert (shop.charges(), len(provider.state.sessions)) == ({"processing": 1}, int(was_asked))
    recover()
    assert (shop.charges(), len(provider.state.sessions)) == ({"requires_action": 1}, 1)
    page = form.submit()
    assert page.links["Continue to the payment page"] == provider.session["url"]


def test_a_lost_answer_is_asked_for_again_within_the_request(shop: Shop, provider: Provider) -> None:
    provider.fault(CREATE, "answer_lost")
    answer = form_of(shop.shopper()).post()
    assert answer.headers["Location"] == provider.session["url"]
    assert (provider.calls(CREATE), len(provider.state.sessions)) == (2, 1)


def test_a_stored_failure_leaves_the_charge_in_doubt_until_its_fence(
    shop: Shop, provider: Provider, recover: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.fault(CREATE, "failed")
    shopper = shop.shopper()
    page = form_of(shopper).submit()
    assert (shop.charges(), provider.calls(CREATE)) == ({"in_doubt": 1}, 2)
    assert "not pay again" in page.text
    recover()
    assert shop.charges() == {"in_doubt": 1}
    assert "no session for this key yet" in shop.value("SELECT note FROM charge")
    monkeypatch.setattr(requests, "time", lambda: time() + 2 * 3600)
    recover()
    assert shop.charges() == {"in_doubt": 1}, "the database's clock does not agree"
    recover(window=0)
    assert (shop.charges(), provider.state.sessions) == ({"canceled": 1}, {})
    assert provider.calls(CREATE) == 3


def test_a_provider_that_was_never_reached_cancels_the_charge(shop: Shop, provider: Provider) -> None:
    shop.gateways.current._client._requestor._options.base_addresses["api"] = "http://127.0.0.1:9"
    shopper = shop.shopper()
    page = form_of(shopper).submit()
    assert (page.heading, shop.charges()) == ("Nothing was charged", {"canceled": 1})


def test_an_open_page_is_asked_about_rarely_if_events_arrive(
    shop: Shop, provider: Provider, gateway: StripeGateway, recover: Callable[..., int]
) -> None:
    form_of(shop.shopper()).post()
    longest = {}
    for sends_events in (True, False):
        gateway.sends_events = sends_events
        recover()
        longest[sends_events] = seconds_until_asked(shop)
    assert longest[True] > LONGEST - 60 > 60 > longest[False]


def seconds_until_asked(shop: Shop) -> float:
    """Return the seconds until recovery asks about the only charge again."""
    with shop.app.app_context():
        at = db.session.execute(db.select(Charge.ask_at)).scalar_one()
    return float((at - datetime.now(UTC)).total_seconds())


def test_a_request_that_was_not_sent_does_not_end_what_recovery_has_begun(
    shop: Shop, gateway: StripeGateway, recover: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recovery reaches the provider while the first request is still waiting for its connection."""

    def not_sent(*_: object) -> Answer:
        recover()
        raise NotSent("too late")

    monkeypatch.setattr(gateway, "charge", not_sent)
    shopper = shop.shopper()
    form_of(shopper).post()
    assert shop.charges() == {"requires_action": 1}
    assert "Continue to the payment page" in shopper.open("/checkout").links


def test_a_total_that_is_too_small_is_refused_before_the_claim(shop: Shop, provider: Provider) -> None:
    with shop.app.app_context():
        change_product(MUG, price=49)
    page = form_of(shop.shopper()).submit()
    assert (page.status, shop.charges(), provider.requests) == (422, {}, [])
    assert "The least that can be paid here is €0.50. Nothing was charged." in page.text
    with shop.app.app_context():
        change_product(MUG, price=50)


def test_the_stored_request_is_the_one_that_was_sent(shop: Shop, provider: Provider) -> None:
    form_of(shop.shopper()).post()
    (_, _, key, params) = provider.requests[-1]
    with shop.app.app_context():
        receipt_url = provider.session["success_url"]
        charge = receipts.find_charge(receipt_url.rsplit("/", 1)[1])
    assert charge is not None and charge.gateway_request is not None
    assert (str(charge.key), charge.gateway_request["version"]) == (key, "2026-10-28.endive")
    stored = charge.gateway_request["params"]
    assert isinstance(stored, dict)
    assert (str(stored["expires_at"]), stored["success_url"]) == (params["expires_at"], params["success_url"])
    assert stored["line_items"][0]["price_data"]["product_data"]["name"] == "Morning mug"
