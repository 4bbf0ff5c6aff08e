"""Send an e-mail by SMTP. Without SMTP settings, write it to a folder as an .eml file."""

import os
import smtplib
from collections.abc import Callable
from datetime import datetime
from email.message import EmailMessage
from email.utils import formataddr, formatdate
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from app.mail.outbox import LeasedEmail

TIMEOUT = 20.0
"""Seconds for each step of an SMTP session."""


class Content(NamedTuple):
    """The content of an e-mail and its recipient. `at` is the time of the event that it reports, in UTC."""

    to: str
    subject: str
    at: datetime
    text: str


def sender(
    write: Callable[[int], Content], shop: str, address: str, smtp_url: str, folder: Path
) -> Callable[[LeasedEmail], None]:
    """Return a function that sends one e-mail.

    `write` returns the content for a charge id. `shop` and `address` are the name and address in the header From.
    The returned function raises an exception if the e-mail was not sent.
    """

    def send(email: LeasedEmail) -> None:
        message = compose(write(email.charge_id), shop, address, email)
        if smtp_url:
            by_smtp(message, smtp_url)
        else:
            into_folder(message, folder, f"{email.message_id}.eml")

    return send


def compose(content: Content, shop: str, address: str, email: LeasedEmail) -> EmailMessage:
    """Return the message. Its Message-ID is the same every time that it is composed."""
    message = EmailMessage()
    message["From"] = formataddr((shop, address))
    message["To"] = content.to
    message["Subject"] = content.subject
    message["Date"] = formatdate(content.at.timestamp())
    message["Message-ID"] = f"<{email.message_id}@{address.partition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(content.text)
    return message


def by_smtp(message: EmailMessage, url: str) -> None:
    """Send the message through smtp://user:password@host:587 or smtps://host:465. Raises OSError.

    With smtp:// and a user, STARTTLS encrypts the connection before the password is sent.
    """
    parts = urlsplit(url)
    connect = smtplib.SMTP_SSL if parts.scheme == "smtps" else smtplib.SMTP
    with connect(parts.hostname or "", parts.port or 0, timeout=TIMEOUT) as connection:
        if parts.username:
            if parts.scheme == "smtp":
                connection.starttls()
            connection.login(unquote(parts.username), unquote(parts.password or ""))
        connection.send_message(message)


def into_folder(message: EmailMessage, folder: Path, name: str) -> None:
    """Write the message to a file that only this user can read, completely or not at all. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = folder / f".{name}.{os.getpid()}"
    with open(os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
        file.write(bytes(message))
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / name)
