"""Every setting: its environment variable, type, default, check and purpose.

`Settings.from_environ()` raises `SettingsError` with one line that names the variable and says what it must be.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlsplit

from app import instance, money


class SettingsError(ValueError):
    """A setting is missing or invalid. The message is one line for the person who starts the program."""


def _text(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError("must be one line of text")
    return value.strip()


def _secret(value: str) -> str:
    if len(value) < 16:
        raise ValueError("must have at least 16 characters; `openssl rand -hex 32` makes a good one")
    return value


def _secrets(value: str) -> tuple[str, ...]:
    return tuple(_secret(part.strip()) for part in value.split(",") if part.strip())


def _api_key(value: str) -> str:
    if not re.fullmatch(r"[!-~]{32,200}", value):
        raise ValueError("must have 32 to 200 characters and no spaces; `openssl rand -hex 32` makes a good one")
    return value


def _shop_id(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", value):
        raise ValueError("must have at most 64 letters, digits and . _ -")
    return value


def _seconds(value: str) -> float:
    seconds = float(value)
    if not 0 < seconds <= 86_400:
        raise ValueError("must be a number of seconds between 0 and 86400")
    return seconds


def _database(value: str) -> str:
    """Return the URL with the driver's name: in SQLAlchemy 2.1 `postgresql://` means psycopg 3, but we use psycopg2."""
    url = re.sub(r"^postgres(ql)?://", "postgresql+psycopg2://", value)
    if not re.match(r"^(postgresql\+psycopg2|sqlite)://", url):
        raise ValueError("must begin with postgresql:// or sqlite:///")
    return url


def _origin(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValueError("must be an origin such as http://127.0.0.1:8010")
    parts.port  # noqa: B018 - raises ValueError if the port is invalid.
    return value.rstrip("/")


def _smtp(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"smtp", "smtps"} or not parts.hostname:
        raise ValueError("must be smtp://host:port or smtps://host:port")
    return value


def _sender(value: str) -> str:
    if not re.fullmatch(r"[\w.+'-]+@[\w.-]+", value, re.ASCII):
        raise ValueError("must be an e-mail address in ASCII (grün.de is xn--grn-ioa.de)")
    return value


def _gateway(value: str) -> str:
    if value not in {"sandbox", "stripe"}:
        raise ValueError("must be sandbox or stripe")
    return value


def _stripe_key(value: str) -> str:
    modes = set(re.findall(r"(?:sk|rk)_(live|test)_", value))
    if modes == {"live", "test"}:
        raise ValueError("must not hold a test key together with a live one: a shop takes either real money or none")
    if not re.fullmatch(r"(sk|rk)_(live|test)_[A-Za-z0-9_]{8,}", value):
        raise ValueError("must be one secret key of the account, such as sk_test_… or sk_live_…")
    return value


def _webhook_secrets(value: str) -> tuple[str, ...]:
    secrets = tuple(part.strip() for part in value.split(",") if part.strip())
    if not all(re.fullmatch(r"whsec_[A-Za-z0-9+/=_-]{8,}", secret) for secret in secrets):
        raise ValueError("must be the webhook's signing secret, whsec_…; during a rotation several, comma separated")
    return secrets


def _currency(value: str) -> str:
    if value not in money.currencies():
        raise ValueError("must be an ISO 4217 currency code in use, such as EUR, USD, JPY or KWD")
    return value


def _networks(value: str) -> tuple[str, ...]:
    return tuple(str(ip_network(part.strip())) for part in value.split(",") if part.strip())


def _hosts(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _switch(value: str) -> bool:
    if value not in {"on", "off"}:
        raise ValueError("must be on or off")
    return value == "on"


def _setting(
    check: Callable[[str], Any], purpose: str, default: Any = None, required: bool = False, shown: bool = True
) -> Any:
    """Declare a setting. `check` turns its text into its value or raises ValueError.

    README.md repeats `purpose` in its table of settings. `shown=False` keeps the value out of `repr`, because it is a
    secret or a URL that may contain one.
    """
    if required:
        return field(metadata={"check": check, "purpose": purpose}, repr=shown)
    return field(default=default, metadata={"check": check, "purpose": purpose}, repr=shown)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of the program. The environment variable of each one is its name in capitals."""

    secret_key: str = _setting(
        _secret, "signs checkout tokens and cookies; must be the same on every host", required=True, shown=False
    )
    secret_key_fallbacks: tuple[str, ...] = _setting(
        _secrets, "earlier secrets, comma separated; still accepted, so that open forms stay valid", (), shown=False
    )
    database_url: str = _setting(
        _database, "the shop's database: PostgreSQL, or SQLite for one machine",
        f"sqlite:///{instance.FOLDER}/shop.sqlite", shown=False,
    )  # fmt: skip
    payment_gateway: str = _setting(_gateway, "the payment gateway: sandbox or stripe", "sandbox")
    gateway_deadline: float = _setting(
        _seconds, "seconds in which a request may ask the gateway, retries included", 10.0
    )
    action_window: float = _setting(_seconds, "seconds that a shopper has to confirm a payment at the bank", 3600.0)
    sandbox_bank_url: str = _setting(_origin, "the sandbox bank's address", "http://127.0.0.1:8010")
    sandbox_api_key: str = _setting(
        _api_key, "opens the shop's account at the sandbox bank; must be the same on every host", "", shown=False
    )
    sandbox_database_url: str = _setting(
        _database, "the sandbox bank's own database", f"sqlite:///{instance.FOLDER}/bank.sqlite", shown=False
    )
    stripe_secret_key: str = _setting(
        _stripe_key, "the Stripe account's secret key; also needed for earlier Stripe payments", "", shown=False
    )
    stripe_webhook_secret: tuple[str, ...] = _setting(
        _webhook_secrets, "verifies Stripe's events; during a rotation several, comma separated", (), shown=False
    )
    stripe_api_base: str = _setting(
        _origin, "the address of Stripe's API; tests use a stand-in", "https://api.stripe.com"
    )
    shop_id: str = _setting(
        _shop_id, "marks the shop's payments at the gateway; must be the same on every host, and never change", ""
    )
    shop_name: str = _setting(_text, "the shop's name, shown on every page", "PayOnce")
    shop_currency: str = _setting(_currency, "the currency of all prices, as an ISO 4217 code", "EUR")
    shop_hosts: tuple[str, ...] = _setting(
        _hosts, "host names under which the shop can be requested, comma separated", ("127.0.0.1", "localhost")
    )
    trusted_proxies: tuple[str, ...] = _setting(
        _networks, "addresses or networks of proxies whose X-Forwarded-* headers are trusted, comma separated", ()
    )
    smtp_url: str = _setting(
        _smtp, "the mail server for receipt e-mails: smtp://user:password@host:587 or smtps://host:465", "", shown=False
    )
    mail_from: str = _setting(_sender, "the sender address of receipt e-mails", "receipts@shop.invalid")
    mail_folder: str = _setting(
        _text, "the folder for receipt e-mails as .eml files if SMTP_URL is not set", f"{instance.FOLDER}/outbox"
    )
    limits_storage_url: str = _setting(
        _text, "the rate limits' storage: memory:// counts per worker, redis://… for all", "memory://", shown=False
    )

    closed: bool = _setting(
        _switch, "on or off: on refuses new payments, for example while a restored database is reconciled", False
    )
    lab: bool | None = _setting(
        _switch, "on or off: serve the demonstration at /lab; on by default, but off with a real gateway", None
    )

    @property
    def has_lab(self) -> bool:
        """Return whether /lab is served. If LAB is not set, it is served only if no real money can move."""
        return self.payment_gateway == "sandbox" if self.lab is None else self.lab

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Read and check all settings. An empty variable counts as not set. Raises SettingsError."""
        values = {setting.name: read(setting.name, environ) for setting in fields(cls)}
        if values["secret_key"] is MISSING:
            raise SettingsError("SECRET_KEY is not set; `make run` makes one, elsewhere set it to a long random text")
        values["shop_id"] = read_or_make("shop_id", environ)
        if values["payment_gateway"] == "sandbox" or instance.has(FILES["sandbox_api_key"]):
            values["sandbox_api_key"] = read_or_make("sandbox_api_key", environ)
        return cls(**values)


def read(name: str, environ: Mapping[str, str] = os.environ) -> Any:
    """Return the checked value of one setting, or its default (MISSING if it has none). Raises SettingsError."""
    setting = next(setting for setting in fields(Settings) if setting.name == name)
    text = environ.get(name.upper(), "")
    try:
        return setting.metadata["check"](text) if text else setting.default
    except ValueError as error:
        raise SettingsError(f"{name.upper()} {_reason(error)}") from None


FILES = {"shop_id": "shop_id", "sandbox_api_key": "sandbox_key"}
"""The files in the folder `instance` that hold these settings if they are not set."""


def read_or_make(name: str, environ: Mapping[str, str] = os.environ) -> Any:
    """Return the checked value of a setting of FILES. If it is not set, its file has it. Raises SettingsError."""
    try:
        if value := read(name, environ) or read(name, {name.upper(): instance.kept(FILES[name])}):
            return value
        raise SettingsError(f"{name.upper()} is not set, and the file {instance.FOLDER}/{FILES[name]} is empty")
    except OSError as error:
        reason = f"is not set, and can't be kept in {instance.FOLDER}: {error.strerror}"
        raise SettingsError(f"{name.upper()} {reason}") from None


def _reason(error: ValueError) -> str:
    message = str(error)
    return message if message.startswith("must") else f"is invalid: {message}"
