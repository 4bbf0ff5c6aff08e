"""Limits on fruitless tries, per browser and per network: testers of stolen cards are slowed, and nobody else.

A tester's tries beside the shop's pages are counted by the same code, without pages, because there are thousands.
"""

from collections.abc import Callable
from contextlib import ExitStack, suppress
from time import time
from types import SimpleNamespace

import pytest
from limits.storage import memory

from app import security, tries
from app.charges.protocol import pay
from app.charges.states import Status
from app.shop import texts
from tests.charges.gateways import LOST, ScriptedGateway
from tests.factories import ASKS_SHOPPER, BOWL, DECLINES, NO_FUNDS, checkout_form, fields, fill_basket, order, purchase
from tests.page import Page, Shopper
from tests.shops import Shop

OFFICE = "198.51.100.7"
pytestmark = pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)
"""The limits have a storage of their own. test_limits_redis.py is about that."""

PER_HOUR = 650
"""Fruitless tries from one network in an hour, as the docstring of `tries` says."""


def decline(shopper: Shopper, times: int) -> list[int]:
    """Pay with cards that are declined. Return the status of each page."""
    return [checkout_form(shopper, card_number=(DECLINES, NO_FUNDS)[n % 2]).submit().status for n in range(times)]


def with_basket(shop: Shop, address: str = OFFICE) -> Shopper:
    """Return a new browser at this address, with something in its basket."""
    shopper = shop.shopper(address=address)
    fill_basket(shopper)
    return shopper


def paid(shopper: Shopper, n: int = 0) -> Page:
    return checkout_form(shopper, email=f"a{n}@example.org").submit()


def cards_tried(shop: Shop, times: int, address: str = OFFICE) -> int:
    """Try cards, each with a new cookie. All of them are declined. Return how many the shop would have tried."""
    return sum(is_tried(shop, address) for _ in range(times))


def is_tried(shop: Shop, address: str = OFFICE, since: float | None = None) -> bool:
    """Try a card that is declined, with a new cookie, or with one of an earlier time. Return whether it was tried."""
    with shop.app.test_request_context(environ_base={"REMOTE_ADDR": address}), suppress(tries.TooManyTries):
        if since is not None:
            security.buyer_id()
            security.session["since"] = int(since)
        with tries.admitted(lambda: False) as this_try:
            this_try.weight = tries.FRUITLESS
            return True
    return False


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return a function that lets time pass for the limiter's storage and for the age of cookies."""
    waited = 0.0

    def passes(seconds: float) -> None:
        nonlocal waited
        waited += seconds

    monkeypatch.setattr(memory, "time", SimpleNamespace(time=lambda: time() + waited))
    monkeypatch.setattr(security, "time", lambda: time() + waited)
    return passes


@pytest.mark.slow
def test_a_browser_is_refused_after_ten_declines(shop: Shop) -> None:
    shopper = shop.shopper()
    fill_basket(shopper)
    assert decline(shopper, 10) == [200] * 10
    form = checkout_form(shopper)
    page = form.submit()
    assert page.status == 429
    assert texts.TOO_MANY_TRIES in page.text
    assert page.form("Pay").fields["checkout_token"] == form.fields["checkout_token"]
    assert shop.charges() == {"declined": 10}
    assert shop.statement() == []


@pytest.mark.slow
def test_a_tester_does_not_lock_out_honest_shoppers_of_the_same_network(
    shop: Shop, wait: Callable[[float], None]
) -> None:
    """The tester tries 20 cards a minute, each with a new cookie, also while the others pay."""
    early = [with_basket(shop) for _ in range(5)]
    wait(60)
    declined = 0
    while declined < 202:
        wait(61)
        declined += cards_tried(shop, 60)
    assert decline(early[0], 1) == [200], "one of them mistypes"
    assert [paid(shopper, n).heading for n, shopper in enumerate(early)] == ["Paid: €24.00"] * 5
    late = [with_basket(shop) for _ in range(5)]
    slowed = checkout_form(late[0]).submit()
    assert (slowed.status, texts.NETWORK_BUSY in slowed.text) == (429, True), "a new shopper while the tester goes on"
    wait(61)
    assert decline(late[0], 1) == [200]
    assert [paid(shopper, n + 5).heading for n, shopper in enumerate(late)] == ["Paid: €24.00"] * 5


@pytest.mark.slow
def test_the_rate_of_a_tester_is_bounded(shop: Shop, wait: Callable[[float], None]) -> None:
    """Half of the cookies were made before the tester began, which is the best that a tester can prepare."""
    old, admitted = time() - 7200, 0
    for _ in range(60):
        admitted += cards_tried(shop, 15) + sum(is_tried(shop, since=old) for _ in range(15))
        wait(60)
    assert 600 < admitted <= PER_HOUR
    assert PER_HOUR == tries.PER_NETWORK.amount // tries.FRUITLESS + 60 * (
        tries.NEWCOMERS.amount + tries.RETURNING.amount
    )


def test_of_tries_at_once_only_the_allowance_passes(shop: Shop) -> None:
    """All are under way before the first is declined."""
    cards_tried(shop, tries.PER_NETWORK.amount // tries.FRUITLESS)
    under_way = 0
    with ExitStack() as stack:
        for _ in range(30):
            stack.enter_context(shop.app.test_request_context(environ_base={"REMOTE_ADDR": OFFICE}))
            with suppress(tries.TooManyTries):
                stack.enter_context(tries.admitted(lambda: False))
                under_way += 1
    assert under_way == tries.NEWCOMERS.amount


def test_payments_that_succeed_use_no_allowance(shop: Shop) -> None:
    cards_tried(shop, tries.PER_NETWORK.amount // tries.FRUITLESS)
    shoppers = [with_basket(shop) for _ in range(tries.NEWCOMERS.amount + 2)]
    assert {paid(shopper, n).status for n, shopper in enumerate(shoppers)} == {200}


def test_who_has_paid_before_is_not_slowed(shop: Shop) -> None:
    customer = with_basket(shop)
    assert paid(customer).heading == "Paid: €24.00"
    cards_tried(shop, 200)
    fill_basket(customer, BOWL)
    assert decline(customer, 4) == [200] * 4
    assert paid(customer).heading == "Paid: €32.00"


def test_a_slowed_buyer_who_was_declined_three_times_must_wait(shop: Shop, wait: Callable[[float], None]) -> None:
    shopper = with_basket(shop)
    wait(60)
    cards_tried(shop, 60)
    assert decline(shopper, 4) == [200, 200, 200, 429]
    wait(600)
    assert paid(shopper).heading == "Paid: €24.00"


def test_another_network_is_not_slowed(shop: Shop) -> None:
    cards_tried(shop, 100)
    assert paid(with_basket(shop, "198.51.100.8")).heading == "Paid: €24.00"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:198.51.100.7", "198.51.100.7", True),
        ("198.51.100.7", "198.51.100.8", False),
        ("unix", "unix", True),
    ],
)
def test_ipv6_is_counted_by_its_64_bit_network(shop: Shop, one: str, other: str, same: bool) -> None:
    cards_tried(shop, 60, one)
    assert cards_tried(shop, 40, other) == (0 if same else 40)


@pytest.mark.slow
def test_twins_and_successful_payments_are_not_counted(shop: Shop) -> None:
    shopper = shop.shopper()
    for n in range(12):
        fill_basket(shopper)
        form = checkout_form(shopper, email=f"a{n}@example.org")
        assert {form.post().status_code for _ in range(3)} == {303}
    assert len(shop.statement()) == 12


@pytest.mark.slow
def test_a_refused_browser_still_reaches_its_receipt(shop: Shop) -> None:
    """By its network and by its own declines."""
    shopper = shop.shopper(address=OFFICE)
    fill_basket(shopper)
    paid_form = checkout_form(shopper)
    paid = paid_form.submit()
    cards_tried(shop, 200)
    fill_basket(shopper, quantity=2)
    assert decline(shopper, 11)[-1] == 429
    assert paid_form.fill(**fields()).submit().url == paid.url
    other_browser = shop.shopper(address=OFFICE)
    assert other_browser.post("/checkout", paid_form.fields).headers["Location"] == paid.path


def test_a_copy_of_a_form_that_is_being_paid_is_led_to_its_receipt(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy looked for a charge before there was one, and is refused after the claim has been committed."""
    form = checkout_form(with_basket(shop))
    refuse = tries.TooManyTries(network=True)

    def pay_the_other_copy(_has_paid: Callable[[], bool]) -> None:
        monkeypatch.undo()
        form.post()
        raise refuse

    monkeypatch.setattr(tries, "admitted", pay_the_other_copy)
    assert form.submit().heading == "Paid: €24.00"
    assert len(shop.statement()) == 1


@pytest.mark.slow
def test_payments_that_are_given_up_are_counted(shop: Shop) -> None:
    shopper = with_basket(shop)
    for _ in range(10):
        checkout_form(shopper, card_number=ASKS_SHOPPER).post()
        page = shopper.open("/checkout")
        assert page.submit("Give this payment up").heading == "Nothing was charged"
    assert checkout_form(shopper, card_number=ASKS_SHOPPER).post().status_code == 429
    assert shop.charges() == {"canceled": 10}


ORDERED = {"paid": (Status.SUCCEEDED, ()), "pending": (Status.IN_DOUBT, (LOST,))}


@pytest.mark.slow
@pytest.mark.parametrize("which", ORDERED)
def test_a_stranger_learns_only_that_it_was_ordered(shop: Shop, which: str) -> None:
    """The page is the same whether the other order is paid or pending, and each such answer is counted."""
    status, script = ORDERED[which]
    with shop.app.app_context():
        assert pay(purchase(order(), email="ada@example.org"), ScriptedGateway(*script), 0.1).status is status
    stranger = with_basket(shop)
    for _ in range(10):
        page = checkout_form(stranger).submit()
        [note] = page.root.all(role="alert")
        assert (page.status, note.text) == (
            409,
            "Is this a second order? Just this was ordered before with the same e-mail address. "
            "Nothing was charged now. Do you want it twice? Yes, order this again",
        )
    assert checkout_form(stranger).submit().status == 429
    assert cards_tried(shop, 100) < 100 - tries.PER_NETWORK.amount // tries.FRUITLESS, "and for its network"


@pytest.mark.slow
def test_forms_whose_order_has_changed_are_counted_for_their_browser(shop: Shop) -> None:
    shopper = with_basket(shop)
    form = checkout_form(shopper)
    fill_basket(shopper, BOWL)
    assert [form.submit().status for _ in range(30)] == [409] * 30
    assert form.submit().status == 409, "the form shows what has changed, whatever the limit"
    assert checkout_form(shopper).submit().status == 429
    assert paid(with_basket(shop)).heading == "Paid: €24.00"
