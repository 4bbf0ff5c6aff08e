"""What a letter looks like, by SMTP and as a file: private, whole, and with no header but its own."""

import stat
from collections.abc import Callable
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from uuid import UUID

import pytest

from app.mail.outbox import LeasedEmail
from app.mail.sending import Content, compose, into_folder, sender
from tests.factories import ready_to_pay
from tests.mail.conftest import pay
from tests.mail.post_office import PostOffice
from tests.shops import Shop

OWED = LeasedEmail(1, 1, UUID(int=7), 1)


def written(to: str = "ada@example.org", subject: str = "Your receipt", text: str = "Paid.") -> Content:
    return Content(to, subject, datetime(2026, 3, 1, 12, tzinfo=UTC), text)


def test_the_letter_says_what_the_receipt_says(
    shop: Shop, deliver: Callable[..., int], post_office: PostOffice
) -> None:
    receipt = pay(shop, name="Åsa Grün <b>")
    deliver()
    [(_, letter)] = post_office.delivered
    text = letter.get_content()
    for words in ("Åsa Grün <b>", "1 x Morning mug", "Total paid: €24.00", "ending in 4242", receipt.path):
        assert words in text
    number = receipt.path[-8:].upper()
    assert number in text
    assert letter["Subject"] == f"Your receipt {number} from PayOnce"
    assert letter["From"] == "Test shop <receipts@shop.invalid>"
    assert letter["Auto-Submitted"] == "auto-generated"
    assert "4242 4242" not in text


def test_files_are_private_and_whole(tmp_path: Path) -> None:
    folder = tmp_path / "outbox"
    sender(lambda _: written(), "Test shop", "receipts@shop.invalid", "", folder)(OWED)
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

    def look(self: Path, target: Path) -> Path:
        modes.append(stat.S_IMODE(self.stat().st_mode))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", look)
    monkeypatch.setattr(Path, "chmod", lambda *_: pytest.fail("it was there with another mode first"))
    into_folder(compose(written(), "Test shop", "receipts@shop.invalid", OWED), tmp_path, "one.eml")
    assert modes == [0o600]


def test_sent_again_it_is_the_same_file(tmp_path: Path) -> None:
    send = sender(lambda _: written(), "Test shop", "receipts@shop.invalid", "", tmp_path)
    send(OWED)
    send(OWED)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("breaks", ["\r\n", "\n", "\r", "\r\n "])
@pytest.mark.parametrize("place", ["to", "subject"])
def test_no_header_can_be_put_in(breaks: str, place: str) -> None:
    """Refused as an OSError or ValueError, or folded away: never another header."""
    words = f"ada@example.org{breaks}Bcc: eve@example.org"
    try:
        letter = compose(written(**{place: words}), "Test shop", "receipts@shop.invalid", OWED)
    except (OSError, ValueError):
        return
    assert message_from_bytes(bytes(letter), policy=default)["Bcc"] is None


def test_no_header_comes_from_a_shopper_s_name_or_address(
    shop: Shop, deliver: Callable[..., int], post_office: PostOffice
) -> None:
    pay(shop, name="Ada\r\nBcc: eve@example.org")
    deliver()
    [(to, letter)] = post_office.delivered
    assert (to, letter["Bcc"]) == (["<ada@example.org>"], None)
    assert sorted(letter.keys()) == sorted(
        ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "Content-Type",
         "Content-Transfer-Encoding", "MIME-Version"]
    )  # fmt: skip


def test_two_addresses_are_no_address(shop: Shop) -> None:
    for email in ("ada@example.org, eve@example.org", "ada@example.org\r\nBcc: eve@example.org", "a@b.c>,<e@b.c"):
        assert ready_to_pay(shop.shopper(), email=email).post().status_code == 422
    assert shop.value("SELECT count(*) FROM charge") == 0


def test_recovery_sends(shop: Shop, post_office: PostOffice) -> None:
    """`recover` is who sends, by the setting."""
    pay(shop)
    other = shop.another(smtp_url=post_office.url)
    with other.app.app_context():
        assert "Processed 1 items" in other.app.test_cli_runner().invoke(args=["recover"]).output
    assert len(post_office.delivered) == 1
    other.close()
