"""An e-mail is owed exactly if the money was taken. One sender at a time sends it, and tries again if it fails."""

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
from tests.mail.smtp_server import SmtpServer
from tests.shops import Shop

Deliver = Callable[..., int]


def owed(shop: Shop) -> int:
    """Return the number of e-mails that are not sent yet."""
    return int(shop.value("SELECT count(*) FROM outbox_email WHERE sent_at IS NULL"))


def test_an_email_is_owed_for_a_succeeded_charge(shop: Shop) -> None:
    pay(shop)
    assert owed(shop) == 1
    assert shop.value("SELECT count(*) FROM outbox_email e JOIN charge c ON c.id = e.charge_id") == 1


def test_no_email_is_owed_without_money(shop: Shop) -> None:
    ready_to_pay(shop.shopper(), card_number=DECLINES).submit()
    assert (shop.charges()["declined"], owed(shop)) == (1, 0)


def test_no_email_is_owed_if_the_record_is_rolled_back(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The e-mail is stored last in the transaction of the record. A failure after it undoes all of it."""
    owe = outbox.owe

    def owe_then_fail(*args: object) -> None:
        owe(*args)  # type: ignore[arg-type]
        raise RuntimeError("power cut")

    monkeypatch.setattr(outbox, "owe", owe_then_fail)
    assert ready_to_pay(shop.shopper()).post().status_code == 500
    assert (shop.charges()["succeeded"], owed(shop), len(shop.statement())) == (0, 0, 1)


def test_an_email_is_sent_once(shop: Shop, deliver: Deliver, smtp_server: SmtpServer) -> None:
    pay(shop)
    assert (deliver(), deliver()) == (1, 0)
    make_due(shop)
    assert deliver() == 0
    [(to, email)] = smtp_server.delivered
    assert to == ["<ada@example.org>"]
    assert "€24.00" in email.get_content()


def test_one_sender_at_a_time_has_an_email(shop: Shop, send: Send, deliver: Deliver, smtp_server: SmtpServer) -> None:
    """A second sender finds nothing to do while the first one holds the lease."""
    pay(shop)
    sending, go_on = Event(), Event()

    def send_slowly(email: outbox.LeasedEmail) -> None:
        sending.set()
        assert go_on.wait(30)
        send(email)

    with ThreadPoolExecutor(1) as other:
        sent = other.submit(deliver, send_slowly)
        assert sending.wait(30)
        second = deliver()
        go_on.set()
        assert (sent.result(), second, len(smtp_server.delivered)) == (1, 0, 1)


def test_many_senders_send_each_email_once(shop: Shop, send: Send, deliver: Deliver, smtp_server: SmtpServer) -> None:
    for number in range(6):
        pay(shop, email=f"{number}@example.org")

    with ThreadPoolExecutor(3) as senders:
        assert sum(senders.map(deliver, [send] * 3)) == 6
    assert sorted(to for (to,), _ in smtp_server.delivered) == [f"<{number}@example.org>" for number in range(6)]


def test_an_email_whose_sender_died_is_sent_again_under_the_same_message_id(
    shop: Shop, send: Send, deliver: Deliver, smtp_server: SmtpServer
) -> None:
    pay(shop)

    def send_and_die(email: outbox.LeasedEmail) -> None:
        send(email)
        raise SystemExit

    with pytest.raises(SystemExit):
        deliver(send_and_die)
    assert deliver() == 0, "the lease of the dead sender has not run out yet"
    make_due(shop)
    assert deliver() == 1
    first, second = smtp_server.delivered
    assert first.email["Message-ID"] == second.email["Message-ID"]
    assert owed(shop) == 0


def test_a_refused_email_is_tried_again_at_growing_intervals(
    shop: Shop, deliver: Deliver, smtp_server: SmtpServer
) -> None:
    pay(shop)
    smtp_server.refuses = True
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
    smtp_server.refuses = False
    make_due(shop)
    assert (deliver(), owed(shop), len(smtp_server.delivered)) == (1, 0, 1)
    assert shop.value("SELECT note FROM outbox_email") is None


def test_an_email_that_fails_does_not_delay_the_others(shop: Shop, send: Send, deliver: Deliver) -> None:
    pay(shop, email="first@example.org")
    pay(shop, email="second@example.org")

    def refuse_the_first(email: outbox.LeasedEmail) -> None:
        if email.tries == 1 and email.id == shop.value("SELECT min(id) FROM outbox_email"):
            raise OSError("mailbox full")
        send(email)

    assert deliver(refuse_the_first) == 2
    assert owed(shop) == 1


def now(shop: Shop) -> datetime:
    """Return the time of the database's clock."""
    with shop.app.app_context(), reading() as tx:
        return tx.execute(select(from_now(0))).scalar_one()


def due(shop: Shop) -> datetime:
    """Return when the only e-mail may next be tried."""
    with shop.app.app_context(), reading() as tx:
        return tx.execute(select(OutboxEmail.send_at)).scalar_one()
