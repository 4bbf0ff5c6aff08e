"""Somebody begins payments that nobody confirms, to empty the shelves. Honest shoppers still pay.

The attackers fill baskets and press Pay, with a card that needs a confirmation, as often as the shop lets them.
"""

from collections.abc import Callable

import pytest

from tests.factories import APPROVES, ASKS_SHOPPER, change_product, fill_basket, product, ready_to_pay
from tests.page import Page, Shopper
from tests.recovery import let_time_pass, one_pass, recover, recover_and_audit
from tests.shop.test_three_d_secure import WAITING, pay
from tests.shops import Shop

HOLD = 600.0
PIECES, LAST = 24, 3
ALL_HELD = "Odd cup: all that are left are in other shoppers’ checkouts at the moment."
COME_BACK = "Some may come back in about 10 minutes."
NO_MONEY = "This try took no money."


@pytest.fixture
def cup(shop: Shop) -> str:
    with shop.app.app_context():
        return product(name="Odd cup", stock=PIECES)


def hold(shop: Shop, slug: str, address: str) -> None:
    """Take as many pieces as one network can get, by payments that nobody confirms."""
    for quantity in (99, PIECES // 2, 4, 2, 1):
        while quantity <= shop.stock(slug):
            shopper = shop.shopper(address=address)
            email = f"{shop.value('SELECT count(*) FROM charge')}@example.org"
            form = ready_to_pay(shopper, slug, quantity, card_number=ASKS_SHOPPER, email=email)
            if form.post().status_code != 303:
                break


def take_all(shop: Shop, slug: str) -> int:
    """Take everything, from as many networks as it needs. Return their number."""
    networks = 0
    while shop.stock(slug):
        hold(shop, slug, f"203.0.{networks}.9")
        networks += 1
    return networks


def test_with_many_networks_everything_is_held_but_not_for_long(shop: Shop, cup: str) -> None:
    assert take_all(shop, cup) >= 4, "each network gets less than the one before"
    shopper = shop.shopper(address="198.51.100.1")
    assert "all in checkouts just now" in shopper.open("/").text
    page = shopper.open(f"/products/{cup}")
    assert f"{ALL_HELD} {COME_BACK}" in page.text
    assert "Sold out" not in page.text
    assert ALL_HELD in fill_basket(shopper, cup, 2).text

    form = ready_to_pay(shopper, cup, 2, email="ada@example.org")
    refused = form.submit()
    assert (refused.status, refused.heading) == (409, "Checkout")
    assert f"{ALL_HELD} {COME_BACK} {NO_MONEY}" in refused.text
    assert refused.form("Pay").fields["email"] == "ada@example.org"
    assert one_pass(shop) == 0, "nobody is cancelled before HOLD"

    let_time_pass(shop, HOLD)
    assert one_pass(shop) > 0
    assert form.submit().heading == "Paid: €48.00", "the same form"
    assert shop.stock(cup) == PIECES - 2
    assert len(shop.statement()) == 1
    recover_and_audit(shop)


def test_one_network_holds_a_share_and_the_others_pay_at_once(shop: Shop, cup: str) -> None:
    hold(shop, cup, "203.0.113.9")
    assert shop.stock(cup) >= PIECES // 2
    assert ready_to_pay(shop.shopper(address="198.51.100.1"), cup, 5).submit().heading == "Paid: €120.00"

    neighbour = shop.shopper(address="203.0.113.9")
    form = ready_to_pay(neighbour, cup, 1, card_number=APPROVES)
    refused = form.submit()
    assert (refused.status, refused.heading) == (429, "Checkout")
    assert "Other payments from your network hold these goods" in refused.text
    assert NO_MONEY in refused.text
    assert refused.form("Pay").fields["email"] == "ada@example.org"

    let_time_pass(shop, HOLD)
    one_pass(shop)
    assert form.submit().heading == "Paid: €24.00"
    recover_and_audit(shop)


def test_an_order_of_more_than_half_is_refused_with_the_number_that_can_be_ordered(shop: Shop, cup: str) -> None:
    shopper = shop.shopper()
    refused = ready_to_pay(shopper, cup, PIECES).submit()
    assert (refused.status, refused.heading) == (409, "Checkout")
    assert f"Odd cup: at most {PIECES // 2} can be ordered at once at the moment. {NO_MONEY}" in refused.text
    assert ready_to_pay(shopper, cup, PIECES // 2).submit().heading == "Paid: €288.00"
    assert ready_to_pay(shopper, cup, PIECES // 4).submit().heading == "Paid: €144.00"


def test_the_next_wave_does_not_reach_a_shopper_who_has_paid(shop: Shop, cup: str) -> None:
    """The attack goes on for an hour: after each HOLD and one pass, honest shoppers pay, and they keep their goods."""
    for wave in range(6):
        take_all(shop, cup)
        shopper = shop.shopper(address=f"198.51.{wave}.1")
        form = ready_to_pay(shopper, cup, 1, email=f"honest{wave}@example.org")
        assert form.submit().status == 409
        let_time_pass(shop, HOLD)
        one_pass(shop)
        assert form.submit().heading == "Paid: €24.00"
    assert len(shop.statement()) == 6
    recover_and_audit(shop)


def while_confirming(shop: Shop, cup: str, seconds: float, wanted: bool) -> tuple[Page, Callable[[], str]]:
    """Pay for the last pieces by a card that needs confirmation. Return the receipt after that time, and "confirm"."""
    with shop.app.app_context():
        change_product(cup, stock=LAST, stocked=LAST)
    shopper = shop.shopper()
    bank_page, receipt = pay(shop, shopper, slug=cup, quantity=LAST)
    assert "We hold your goods until" in shopper.open(receipt).text
    if wanted:
        other = ready_to_pay(shop.shopper(address="198.51.100.1"), cup, 1, email="bob@example.org")
        assert other.submit().status == 409
    let_time_pass(shop, seconds)
    recover(shop)
    return shopper.open(receipt), bank_page.decide


@pytest.mark.parametrize(
    ("seconds", "wanted"), [(HOLD - 60, True), (HOLD + 60, False)], ids=["before HOLD", "nobody needs the goods"]
)
def test_a_shopper_who_is_confirming_is_not_interrupted(shop: Shop, cup: str, seconds: float, wanted: bool) -> None:
    receipt, confirm = while_confirming(shop, cup, seconds, wanted)
    assert receipt.heading == WAITING
    confirm()
    assert receipt.reload().heading == "Paid: €72.00"
    recover_and_audit(shop)


def test_a_shopper_who_confirms_too_late_is_not_charged_and_can_pay_again(shop: Shop, cup: str) -> None:
    receipt, confirm = while_confirming(shop, cup, HOLD + 60, wanted=True)
    assert receipt.heading == "Nothing was charged"
    assert "another shopper wanted them. No money was taken" in receipt.text
    confirm()
    assert receipt.reload().heading == "Nothing was charged"
    assert shop.statement() == []
    again = receipt.follow("Pay again")
    assert again.heading == "Checkout"
    recover_and_audit(shop)


def test_goods_that_are_sold_are_called_sold_out(shop: Shop, cup: str) -> None:
    waiting: Shopper = shop.shopper(address="198.51.100.1")
    form = ready_to_pay(waiting, cup, 1, email="bob@example.org")
    with shop.app.app_context():
        change_product(cup, stock=LAST, stocked=LAST)
    assert ready_to_pay(shop.shopper(), cup, LAST).submit().heading == "Paid: €72.00"
    refused = form.submit()
    assert (refused.status, refused.heading) == (409, "Your basket")
    assert "Odd cup is sold out." in refused.text
    assert "Sold out." in waiting.open(f"/products/{cup}").text
