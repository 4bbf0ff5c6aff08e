"""Send an e-mail by SMTP. Without SMTP settings, write it to a folder as an .eml file."""

import os
from collections.abc import Callable
from email.message import EmailMessage
from email.policy import default
from email.utils import formataddr, formatdate
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import idna

from app.mail import smtp
from app.mail.outbox import SENDING_SECONDS, LeasedEmail, Undeliverable
from app.mail.pace import Pace


class Content(NamedTuple):
    """The content of an e-mail and its recipient."""

    to: str
    subject: str
    text: str


def sender(
    write: Callable[[int], Content], pace: Pace, shop: str, address: str, smtp_url: str, folder: Path
) -> Callable[[LeasedEmail], None]:
    """Return a function that sends one e-mail.

    `write` returns the content for a charge id, as it is true now. `pace` limits the e-mails to one person. `shop` and
    `address` are the name and address in the header From. The returned function raises an exception if the e-mail was
    not sent within SENDING_SECONDS.
    """

    def send(email: LeasedEmail) -> None:
        end = monotonic() + SENDING_SECONDS
        content = write(email.charge_id)
        pace.check(content.to)
        message = compose(content, shop, address, email)
        if smtp_url:
            smtp.send(message, smtp_url, end - monotonic())
        else:
            into_folder(message, folder, f"{email.message_id}.eml")
        pace.count(content.to)

    return send


def compose(content: Content, shop: str, address: str, email: LeasedEmail) -> EmailMessage:
    """Return the message. Its Message-ID is the same every time that it is composed. Raises Undeliverable."""
    to = _with_ascii_domain(content.to)
    message = EmailMessage(policy=default.clone(utf8=not to.isascii()))
    message["From"] = formataddr((shop, address))
    message["To"] = to
    if [each.addr_spec for each in message["To"].addresses] != [to]:
        # For example "=?utf-8?q?ada?=@example.org", which is read as another person's address.
        raise Undeliverable("the address means another one in an e-mail")
    message["Subject"] = content.subject
    message["Date"] = formatdate()
    message["Message-ID"] = f"<{email.message_id}@{address.partition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(content.text)
    return message


def _with_ascii_domain(address: str) -> str:
    """Return the address with its domain in the form that every mail server knows: grün.de → xn--grn-ioa.de."""
    name, _, domain = address.rpartition("@")
    try:
        return f"{name}@{idna.encode(domain, uts46=True).decode()}"
    except idna.IDNAError as error:
        raise Undeliverable(f"the domain of the address is not valid: {error}") from None


def into_folder(message: EmailMessage, folder: Path, name: str) -> None:
    """Write the message to a file that only this user can read, completely or not at all. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = folder / f".{name}.{os.getpid()}"
    with open(os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
        file.write(bytes(message))
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / name)
