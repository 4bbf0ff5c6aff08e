"""How a letter gets away: by SMTP where it is set, else as an .eml file that any mail program opens."""

import os
import smtplib
from collections.abc import Callable
from datetime import datetime
from email.message import EmailMessage
from email.utils import formataddr, formatdate
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from app.mail.outbox import Owed

TIMEOUT = 20.0
"""Seconds for each step of an SMTP conversation."""


class Written(NamedTuple):
    """What a letter says, to whom, and of what moment it tells."""

    to: str
    subject: str
    at: datetime
    text: str


def sender(
    write: Callable[[int], Written], shop: str, address: str, smtp_url: str, folder: Path
) -> Callable[[Owed], None]:
    """What sends one letter. `write` writes it for a charge; `shop` and `address` are whom it comes from."""

    def send(owed: Owed) -> None:
        letter = compose(write(owed.charge), shop, address, owed)
        if smtp_url:
            by_smtp(letter, smtp_url)
        else:
            into_folder(letter, folder, f"{owed.message}.eml")

    return send


def compose(written: Written, shop: str, address: str, owed: Owed) -> EmailMessage:
    """The letter. Its Message-ID is the same however often it is made."""
    letter = EmailMessage()
    letter["From"] = formataddr((shop, address))
    letter["To"] = written.to
    letter["Subject"] = written.subject
    letter["Date"] = formatdate(written.at.timestamp())
    letter["Message-ID"] = f"<{owed.message}@{address.partition('@')[2]}>"
    letter["Auto-Submitted"] = "auto-generated"
    letter.set_content(written.text)
    return letter


def by_smtp(letter: EmailMessage, url: str) -> None:
    """smtp://user:password@host:587 (with STARTTLS where there is a user), smtps://host:465. Raises OSError."""
    parts = urlsplit(url)
    kind = smtplib.SMTP_SSL if parts.scheme == "smtps" else smtplib.SMTP
    with kind(parts.hostname or "", parts.port or 0, timeout=TIMEOUT) as connection:
        if parts.username:
            if parts.scheme == "smtp":
                connection.starttls()
            connection.login(unquote(parts.username), unquote(parts.password or ""))
        connection.send_message(letter)


def into_folder(letter: EmailMessage, folder: Path, name: str) -> None:
    """Whole or not at all, and only ours to read: written beside, then moved to its place. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = folder / f".{name}.{os.getpid()}"
    with open(os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
        file.write(bytes(letter))
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / name)
