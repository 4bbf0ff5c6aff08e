"""Fifty simultaneous connections to real workers with a real bank make one charge and get the same receipt."""

from pathlib import Path
from uuid import UUID

import pytest

from tests.factories import DECLINES, SLOW, checkout_form, fields, ready_to_pay
from tests.gateways.bank import until
from tests.page import Form
from tests.processes.racing import Post, all_at_once
from tests.processes.running import Deployment, RunningShop

ROUNDS = 20


def race(deployment: Deployment, email: str, tabs: int, copies: int) -> None:
    """Send the forms of `tabs` tabs with one order to both shops, each `copies` times at once. It must be paid once."""
    shopper = deployment.shop.shopper()
    forms = [ready_to_pay(shopper, email=email), *(checkout_form(shopper, email=email) for _ in range(tabs - 1))]
    origins = [deployment.shop.url, deployment.shop.url, deployment.second_shop.url]
    posts = [Post(form, origins[n % 3]) for n, form in enumerate(form for _ in range(copies) for form in forms)]
    answers = all_at_once(posts)
    assert [answer.status for answer in answers] == [303] * (tabs * copies)
    assert len({answer.location for answer in answers}) == 1
    [(status, amount, key)] = deployment.charges_of(email)
    assert (status, amount) == ("succeeded", 2400)
    assert deployment.bank.moved(str(UUID(str(key)))) == [("charge", 2400)]
    assert shopper.open(str(answers[0].location)).heading == "Paid: €24.00"


@pytest.mark.parametrize(("tabs", "copies"), [(1, 50), (5, 10)])
def test_fifty_simultaneous_forms_pay_once(deployment: Deployment, email: str, tabs: int, copies: int) -> None:
    before = len(deployment.rows("SELECT id FROM charge"))
    for n in range(ROUNDS):
        race(deployment, f"{n}.{email}", tabs, copies)
    assert len(deployment.rows("SELECT id FROM charge")) == before + ROUNDS
    assert "Traceback" not in deployment.output()


def is_claimed(form: Form, shop: RunningShop) -> bool:
    """Return whether this shop shows the form's payment to its buyer."""
    cookies = form.page.shopper.client.cookies
    shopper = shop.shopper()
    shopper.client.cookies = cookies
    return "Being confirmed" in shopper.open("/receipts").text


def test_twins_are_answered_while_the_bank_is_slow(deployment: Deployment, email: str) -> None:
    """The twins go to both gunicorns. Both find the claim while the first request still waits for the bank."""
    form = ready_to_pay(deployment.shop.shopper(), email=email, card_number=SLOW)
    winner = Post(form).finish()
    until(lambda: is_claimed(form, deployment.second_shop))
    twins = all_at_once([Post(form, origin) for origin in [deployment.shop.url, deployment.second_shop.url] * 5])
    assert not winner.is_answered(), "the bank must still be working on the first request"
    first = winner.answer()
    assert {twin.location for twin in twins} == {first.location}
    assert first.seconds >= deployment.bank.slow
    assert max(twin.seconds for twin in twins) < first.seconds / 2
    assert [status for status, *_ in deployment.charges_of(email)] == ["succeeded"]


def test_a_second_tab_is_answered_while_the_bank_is_slow(deployment: Deployment, email: str) -> None:
    shopper = deployment.shop.shopper()
    form = ready_to_pay(shopper, email=email, card_number=SLOW)
    second_tab = checkout_form(shopper, email=email)
    winner = Post(form).finish()
    until(lambda: is_claimed(form, deployment.second_shop))
    other = all_at_once([Post(second_tab, deployment.second_shop.url)])[0]
    assert not winner.is_answered()
    assert other.location == winner.answer().location


def test_a_worker_that_refused_twins_serves_a_hundred_more_requests(deployment: Deployment, email: str) -> None:
    """The second shop has one worker, so anything that a conflict left behind would affect these requests."""
    shopper = deployment.second_shop.shopper()
    form = ready_to_pay(shopper, email=email, card_number=DECLINES)
    answers = all_at_once([Post(form) for _ in range(20)])
    assert {answer.status for answer in answers} == {303}
    statuses = []
    for n in range(25):
        page = shopper.open("/checkout").submit("Pay", **fields(email=f"{n}.{email}", card_cvc=""))
        statuses += [page.status, shopper.open("/receipts").status, form.post().status_code, shopper.open("/").status]
    assert statuses == [422, 200, 303, 200] * 25
    paid = checkout_form(shopper, email=email).submit()
    assert paid.heading == "Paid: €24.00"


def test_a_shopper_who_hangs_up_is_charged_once_and_finds_the_receipt(deployment: Deployment, email: str) -> None:
    form = ready_to_pay(deployment.shop.shopper(), email=email)
    Post(form).finish().socket.close()
    until(lambda: [status for status, *_ in deployment.charges_of(email)] == ["succeeded"])
    assert "Paid" in form.page.shopper.open("/receipts").text
    assert form.submit().heading == "Paid: €24.00"


def test_a_worker_that_stops_finishes_its_charge_in_flight(deployment: Deployment, email: str, tmp_path: Path) -> None:
    shop = RunningShop(deployment.shop.database_url, deployment.bank.url, tmp_path, workers=1).start()
    form = ready_to_pay(shop.shopper(), email=email, card_number=SLOW)
    post = Post(form).finish()
    until(lambda: is_claimed(form, deployment.second_shop))
    assert shop.stop() == 0
    assert post.answer().status == 303
    assert [status for status, *_ in deployment.charges_of(email)] == ["succeeded"]
