"""Fifty real connections at the same moment, real workers, a real bank: one charge, and everybody gets its receipt."""

from uuid import UUID

import pytest

from tests.factories import DECLINES, SLOW, checkout_form, fields, ready_to_pay
from tests.gateways.bank import until
from tests.page import Form
from tests.processes.racing import Post, all_at_once
from tests.processes.running import RunningShop, Town

ROUNDS = 20


def race(town: Town, email: str, tabs: int, each: int) -> None:
    """So many tabs of one order, each sent so often at the same moment, to the workers of both shops."""
    shopper = town.shop.shopper()
    forms = [ready_to_pay(shopper, email=email), *(checkout_form(shopper, email=email) for _ in range(tabs - 1))]
    to = [town.shop.url, town.shop.url, town.branch.url]
    posts = [Post(form, to[n % 3]) for n, form in enumerate(form for _ in range(each) for form in forms)]
    answers = all_at_once(posts)
    assert [answer.status for answer in answers] == [303] * (tabs * each)
    assert len({answer.location for answer in answers}) == 1
    [(status, amount, token)] = town.charges_of(email)
    assert (status, amount) == ("succeeded", 2400)
    assert town.bank.moved(str(UUID(str(token)))) == [("charge", 2400)]
    assert shopper.open(str(answers[0].location)).heading == "Paid: €24.00"


@pytest.mark.parametrize(("tabs", "each"), [(1, 50), (5, 10)])
def test_fifty_at_once_twenty_times(town: Town, email: str, tabs: int, each: int) -> None:
    before = len(town.rows("SELECT id FROM charge"))
    for n in range(ROUNDS):
        race(town, f"{n}.{email}", tabs, each)
    assert len(town.rows("SELECT id FROM charge")) == before + ROUNDS
    assert "Traceback" not in town.said()


def claimed(form: Form, at: RunningShop) -> bool:
    """Whether the shop at that address shows the payment to its buyer."""
    cookies = form.page.shopper.client.cookies
    shopper = at.shopper()
    shopper.client.cookies = cookies
    return "Being confirmed" in shopper.open("/receipts").text


def test_twins_are_answered_while_the_bank_is_slow(town: Town, email: str) -> None:
    """By the same gunicorn and by another process, which both see the claim while the winner still waits."""
    form = ready_to_pay(town.shop.shopper(), email=email, card_number=SLOW)
    winner = Post(form).finish()
    until(lambda: claimed(form, town.branch))
    twins = all_at_once([Post(form, origin) for origin in [town.shop.url, town.branch.url] * 5])
    assert not winner.answered(), "the bank is still being asked"
    first = winner.answer()
    assert {twin.location for twin in twins} == {first.location}
    assert first.seconds >= town.bank.slow
    assert max(twin.seconds for twin in twins) < first.seconds / 2
    assert [status for status, *_ in town.charges_of(email)] == ["succeeded"]


def test_a_second_tab_is_answered_while_the_bank_is_slow(town: Town, email: str) -> None:
    shopper = town.shop.shopper()
    form = ready_to_pay(shopper, email=email, card_number=SLOW)
    tab = checkout_form(shopper, email=email)
    winner = Post(form).finish()
    until(lambda: claimed(form, town.branch))
    other = all_at_once([Post(tab, town.branch.url)])[0]
    assert not winner.answered()
    assert other.location == winner.answer().location


def test_a_worker_that_refused_twins_answers_a_hundred_more(town: Town, email: str) -> None:
    """The branch has one worker: whatever a conflict left behind would be met again."""
    shopper = town.branch.shopper()
    form = ready_to_pay(shopper, email=email, card_number=DECLINES)
    answers = all_at_once([Post(form) for _ in range(20)])
    assert {answer.status for answer in answers} == {303}
    answered = []
    for n in range(25):
        page = shopper.open("/checkout").submit("Pay", **fields(email=f"{n}.{email}", card_cvc=""))
        answered += [page.status, shopper.open("/receipts").status, form.post().status_code, shopper.open("/").status]
    assert answered == [422, 200, 303, 200] * 25
    paid = checkout_form(shopper, email=email).submit()
    assert paid.heading == "Paid: €24.00"


def test_who_hangs_up_is_still_served_and_finds_the_receipt(town: Town, email: str) -> None:
    form = ready_to_pay(town.shop.shopper(), email=email)
    Post(form).finish().socket.close()
    until(lambda: [status for status, *_ in town.charges_of(email)] == ["succeeded"])
    assert "Paid" in form.page.shopper.open("/receipts").text
    assert form.submit().heading == "Paid: €24.00"


def test_a_charge_in_flight_ends_before_its_worker_does(town: Town, email: str, tmp_path: object) -> None:
    shop = RunningShop(town.shop.database_url, town.bank.url, tmp_path, workers=1).start()  # type: ignore[arg-type]
    form = ready_to_pay(shop.shopper(), email=email, card_number=SLOW)
    post = Post(form).finish()
    until(lambda: claimed(form, town.branch))
    assert shop.stop() == 0
    assert post.answer().status == 303
    assert [status for status, *_ in town.charges_of(email)] == ["succeeded"]
