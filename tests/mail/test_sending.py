"""The e-mails themselves, sent by SMTP or written to files: content, headers, and who can read the files."""

import stat
from collections.abc import Callable
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from uuid import UUID

import pytest

from app.charges import refunds
from app.mail.outbox import LeasedEmail
from app.mail.sending import Content, compose, into_folder, sender
from tests.factories import ready_to_pay
from tests.mail.conftest import new_pace, pay
from tests.mail.smtp_server import SmtpServer
from tests.page import Page
from tests.shop.test_receipts import charge_of, promise_refund
from tests.shops import Shop

OWED = LeasedEmail(1, 1, UUID(int=7), 1)


def content(to: str = "ada@example.org", subject: str = "Your receipt", text: str = "Paid.") -> Content:
    return Content(to, subject, text)


def test_the_email_contains_the_receipt(shop: Shop, deliver: Callable[..., int], smtp_server: SmtpServer) -> None:
    receipt = pay(shop, name="Åsa Grün <b>")
    deliver()
    [(_, email)] = smtp_server.delivered
    text = email.get_content()
    for expected in ("Åsa Grün <b>", "1 x Morning mug", "Total paid: €24.00", "ending in 4242", receipt.path):
        assert expected in text
    reference = receipt.path[-8:].upper()
    assert reference in text
    assert email["Subject"] == f"Your receipt {reference} from PayOnce"
    assert email["From"] == "Test shop <receipts@shop.invalid>"
    assert email["Auto-Submitted"] == "auto-generated"
    assert "4242 4242" not in text


def test_the_email_says_what_is_true_when_it_is_sent(
    shop: Shop, deliver: Callable[..., int], smtp_server: SmtpServer
) -> None:
    """Refunds that are made before the e-mail could be sent are in it."""
    for number, (amounts, open_amount) in enumerate([([700], 0), ([700, 1700], 0), ([], 2400), ([700], 1000)]):
        receipt = pay(shop, email=f"a{number}@example.org")
        refund(shop, receipt, amounts)
        if open_amount:
            promise_refund(shop, receipt, open_amount)
    assert deliver() == 4
    emails = {to: email.get_content() for (to,), email in smtp_server.delivered}
    in_part, in_full, being_refunded, both = (emails[f"<a{number}@example.org>"] for number in range(4))
    assert "is paid. €7.00 of the €24.00 has been given back since." in in_part
    assert "Refunded: €7.00" in in_part
    assert "was paid. All of the €24.00 has been given back since." in in_full
    assert "Refunded: €24.00" in in_full
    assert "is paid, once and in full." in being_refunded
    assert "Being refunded: €24.00, not confirmed by the bank yet" in being_refunded
    assert "Refunded: €7.00" in both
    assert "Being refunded: €10.00, not confirmed by the bank yet" in both
    for refunded in (in_part, in_full, both):
        assert "in full." not in refunded


def refund(shop: Shop, receipt: Page, amounts: list[int]) -> None:
    """Refund these amounts in minor units."""
    with shop.app.app_context():
        for amount in amounts:
            refunds.refund(charge_of(receipt), amount, shop.gateway, 3.0)


def test_a_file_is_private_and_complete(tmp_path: Path) -> None:
    folder = tmp_path / "outbox"
    sender(lambda _: content(), new_pace(), "Test shop", "receipts@shop.invalid", "", folder)(OWED)
    [file] = folder.iterdir()
    assert file.name == f"{OWED.message_id}.eml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert message_from_bytes(file.read_bytes(), policy=default)["To"] == "ada@example.org"


def test_a_file_is_never_readable_by_others_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = []
    replace = Path.replace

    def record_mode(self: Path, target: Path) -> Path:
        modes.append(stat.S_IMODE(self.stat().st_mode))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", record_mode)
    monkeypatch.setattr(Path, "chmod", lambda *_: pytest.fail("the file existed with another mode first"))
    into_folder(compose(content(), "Test shop", "receipts@shop.invalid", OWED), tmp_path, "one.eml")
    assert modes == [0o600]


def test_sending_an_email_again_writes_the_same_file(tmp_path: Path) -> None:
    send = sender(lambda _: content(), new_pace(), "Test shop", "receipts@shop.invalid", "", tmp_path)
    send(OWED)
    send(OWED)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("line_break", ["\r\n", "\n", "\r", "\r\n "])
@pytest.mark.parametrize("field", ["to", "subject"])
def test_a_line_break_never_adds_a_header(line_break: str, field: str) -> None:
    """Composing raises OSError or ValueError, or folds the line break away."""
    value = f"ada@example.org{line_break}Bcc: eve@example.org"
    try:
        message = compose(content(**{field: value}), "Test shop", "receipts@shop.invalid", OWED)
    except (OSError, ValueError):
        return
    assert message_from_bytes(bytes(message), policy=default)["Bcc"] is None


def test_a_stored_name_cannot_add_headers(shop: Shop, deliver: Callable[..., int], smtp_server: SmtpServer) -> None:
    """The form refuses such a name. Rows of earlier versions may hold one."""
    pay(shop)
    shop.execute("UPDATE charge SET name = :name", name="Ada\r\nBcc: eve@example.org")
    deliver()
    [(to, email)] = smtp_server.delivered
    assert (to, email["Bcc"]) == (["<ada@example.org>"], None)
    assert sorted(email.keys()) == sorted(
        ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "Content-Type",
         "Content-Transfer-Encoding", "MIME-Version"]
    )  # fmt: skip


def test_two_addresses_are_refused(shop: Shop) -> None:
    for addresses in ("ada@example.org, eve@example.org", "ada@example.org\r\nBcc: eve@example.org", "a@b.c>,<e@b.c"):
        assert ready_to_pay(shop.shopper(), email=addresses).post().status_code == 422
    assert shop.value("SELECT count(*) FROM charge") == 0


def test_the_command_recover_sends_by_smtp_if_configured(shop: Shop, smtp_server: SmtpServer) -> None:
    pay(shop)
    other = shop.another(smtp_url=smtp_server.url)
    with other.app.app_context():
        assert "Processed 1 items" in other.app.test_cli_runner().invoke(args=["recover"]).output
    assert len(smtp_server.delivered) == 1
    other.close()
