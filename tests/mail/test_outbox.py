"""A letter is owed exactly when the money was taken; it goes out once, from one sender at a time, or again later."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from threading import Event

import pytest
from sqlalchemy import select

from app.database import from_now, reading
from app.mail import outbox
from app.mail.models import OutboxEmail
from tests.factories import DECLINES, ready_to_pay
from tests.mail.conftest import Send, make_due, pay
from tests.mail.post_office import PostOffice
from tests.shops import Shop

Deliver = Callable[..., int]


def owed(shop: Shop) -> int:
    return int(shop.value("SELECT count(*) FROM outbox_email WHERE sent_at IS NULL"))


def test_owed_with_the_success(shop: Shop) -> None:
    pay(shop)
    assert owed(shop) == 1
    assert shop.value("SELECT count(*) FROM outbox_email l JOIN charge c ON c.id = l.charge_id") == 1


def test_not_owed_without_money(shop: Shop) -> None:
    ready_to_pay(shop.shopper(), card_number=DECLINES).submit()
    assert (shop.charges()["declined"], owed(shop)) == (1, 0)


def test_a_record_that_is_rolled_back_leaves_none(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The letter is the last word of the record: what fails after it takes it back with the success."""
    owe = outbox.owe

    def owe_then_fail(*words: object) -> None:
        owe(*words)  # type: ignore[arg-type]
        raise RuntimeError("the power went")

    monkeypatch.setattr(outbox, "owe", owe_then_fail)
    assert ready_to_pay(shop.shopper()).post().status_code == 500
    assert (shop.charges()["succeeded"], owed(shop), len(shop.statement())) == (0, 0, 1)


def test_sent_once(shop: Shop, deliver: Deliver, post_office: PostOffice) -> None:
    pay(shop)
    assert (deliver(), deliver()) == (1, 0)
    make_due(shop)
    assert deliver() == 0
    [(to, letter)] = post_office.delivered
    assert to == ["<ada@example.org>"]
    assert "€24.00" in letter.get_content()


def test_one_sender_at_a_time(shop: Shop, send: Send, deliver: Deliver, post_office: PostOffice) -> None:
    """A second sender finds nothing to do while the first has the letter in its hands."""
    pay(shop)
    sending, go_on = Event(), Event()

    def slow(letter: outbox.LeasedEmail) -> None:
        sending.set()
        assert go_on.wait(30)
        send(letter)

    with ThreadPoolExecutor(1) as other:
        sent = other.submit(deliver, slow)
        assert sending.wait(30)
        second = deliver()
        go_on.set()
        assert (sent.result(), second, len(post_office.delivered)) == (1, 0, 1)


def test_many_senders_many_letters(shop: Shop, send: Send, deliver: Deliver, post_office: PostOffice) -> None:
    for number in range(6):
        pay(shop, email=f"{number}@example.org")

    with ThreadPoolExecutor(3) as senders:
        assert sum(senders.map(deliver, [send] * 3)) == 6
    assert sorted(to for (to,), _ in post_office.delivered) == [f"<{number}@example.org>" for number in range(6)]


def test_a_sender_that_dies_before_noting_it_sends_the_same_letter_again(
    shop: Shop, send: Send, deliver: Deliver, post_office: PostOffice
) -> None:
    pay(shop)

    def send_and_die(letter: outbox.LeasedEmail) -> None:
        send(letter)
        raise SystemExit

    with pytest.raises(SystemExit):
        deliver(send_and_die)
    assert deliver() == 0, "the lease of the dead sender was not kept"
    make_due(shop)
    assert deliver() == 1
    first, second = post_office.delivered
    assert first.letter["Message-ID"] == second.letter["Message-ID"]
    assert owed(shop) == 0


def test_back_off(shop: Shop, deliver: Deliver, post_office: PostOffice) -> None:
    """What is refused waits, longer each time, says why, and goes out in the end."""
    pay(shop)
    post_office.refuses = True
    waits = []
    for _ in range(6):
        make_due(shop)
        before = now(shop)
        assert deliver() == 1
        waits.append((due(shop) - before).total_seconds())
    assert waits[0] > 0
    assert waits[-1] > 4 * waits[0]
    assert "451" in shop.value("SELECT note FROM outbox_email")
    assert deliver() == 0
    post_office.refuses = False
    make_due(shop)
    assert (deliver(), owed(shop), len(post_office.delivered)) == (1, 0, 1)
    assert shop.value("SELECT note FROM outbox_email") is None


def test_a_letter_that_fails_does_not_hold_up_the_others(shop: Shop, send: Send, deliver: Deliver) -> None:
    pay(shop, email="first@example.org")
    pay(shop, email="second@example.org")

    def refuse_the_first(letter: outbox.LeasedEmail) -> None:
        if letter.tries == 1 and letter.id == shop.value("SELECT min(id) FROM outbox_email"):
            raise OSError("full")
        send(letter)

    assert deliver(refuse_the_first) == 2
    assert owed(shop) == 1


def now(shop: Shop) -> datetime:
    """The database's clock."""
    with shop.app.app_context(), reading() as tx:
        return tx.execute(select(from_now(0))).scalar_one()


def due(shop: Shop) -> datetime:
    with shop.app.app_context(), reading() as tx:
        return tx.execute(select(OutboxEmail.send_at)).scalar_one()
