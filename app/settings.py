"""Every setting: its environment variable, type, default, check and purpose.

`Settings.from_environ()` raises `SettingsError` with one line that names the variable and says what it must be.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any
from urllib.parse import urlsplit

from app import checks, instance


class SettingsError(ValueError):
    """A setting is missing or invalid. The message is one line for the person who starts the program."""


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
        checks.secret, "signs checkout tokens and cookies; must be the same on every host", required=True, shown=False
    )
    secret_key_fallbacks: tuple[str, ...] = _setting(
        checks.earlier_secrets,
        "earlier secrets, comma separated; still accepted, so that open forms stay valid",
        (),
        shown=False,
    )
    database_url: str = _setting(
        checks.database, "the shop's database: PostgreSQL, or SQLite for one machine",
        f"sqlite:///{instance.FOLDER}/shop.sqlite", shown=False,
    )  # fmt: skip
    payment_gateway: str = _setting(checks.gateway, "the payment gateway: sandbox or stripe", "sandbox")
    gateway_deadline: float = _setting(
        checks.seconds, "seconds in which a request may ask the gateway, retries included", 10.0
    )
    gunicorn_threads: int = _setting(
        checks.threads, "threads per worker; three quarters of them may wait for the gateway at the same time", 96
    )
    action_window: float = _setting(
        checks.seconds, "seconds that a shopper has to confirm a payment at the bank", 3600.0
    )
    hold: float = _setting(
        checks.seconds, "seconds for which an unconfirmed payment holds its goods when others need them", 600.0
    )
    sandbox_bank_url: str = _setting(checks.origin, "the sandbox bank's address", "http://127.0.0.1:8010")
    sandbox_api_key: str = _setting(
        checks.api_key, "opens the shop's account at the sandbox bank; must be the same on every host", "", shown=False
    )
    sandbox_database_url: str = _setting(
        checks.database, "the sandbox bank's own database", f"sqlite:///{instance.FOLDER}/bank.sqlite", shown=False
    )
    stripe_secret_key: str = _setting(
        checks.stripe_key, "the Stripe account's secret key; also needed for earlier Stripe payments", "", shown=False
    )
    stripe_webhook_secret: tuple[str, ...] = _setting(
        checks.webhook_secrets, "verifies Stripe's events; during a rotation several, comma separated", (), shown=False
    )
    stripe_api_base: str = _setting(
        checks.origin, "the address of Stripe's API; tests use a stand-in", "https://api.stripe.com"
    )
    shop_id: str = _setting(
        checks.shop_id, "marks the shop's payments at the gateway; must be the same on every host, and never change", ""
    )
    shop_name: str = _setting(checks.text, "the shop's name, shown on every page", "PayOnce")
    shop_currency: str = _setting(checks.currency, "the currency of all prices, as an ISO 4217 code", "EUR")
    shop_hosts: tuple[str, ...] = _setting(
        checks.hosts, "host names under which the shop can be requested, comma separated", ("127.0.0.1", "localhost")
    )
    shop_url: str = _setting(
        checks.origin, "the shop's address, such as https://shop.example, for links in e-mails and for the way back "
        "from the gateway; empty: the address of the request", "",
    )  # fmt: skip
    hsts_subdomains: bool = _setting(
        checks.switch, "on or off: on tells browsers to use TLS for all subdomains of the shop's host as well", False
    )
    trusted_proxies: tuple[str, ...] = _setting(
        checks.networks, "addresses or networks of proxies whose X-Forwarded-* headers are trusted, comma separated", ()
    )
    smtp_url: str = _setting(
        checks.smtp,
        "the mail server for receipt e-mails: smtp://user:password@host:587 or smtps://host:465",
        "",
        shown=False,
    )
    mail_from: str = _setting(checks.sender, "the sender address of receipt e-mails", "receipts@shop.invalid")
    mail_folder: str = _setting(
        checks.text, "the folder for receipt e-mails as .eml files if SMTP_URL is not set", f"{instance.FOLDER}/outbox"
    )
    limits_storage_url: str = _setting(
        checks.text,
        "the rate limits' storage: memory:// counts per worker, redis://… for all",
        "memory://",
        shown=False,
    )

    drain_seconds: float = _setting(
        checks.pause, "seconds between SIGTERM, when /readyz begins to return 503, and the stop; for balancers", 0.0
    )
    metrics_token: str = _setting(
        checks.token,
        "opens /metrics to other machines, as a bearer token; without it, only to this one",
        "",
        shown=False,
    )
    closed: bool = _setting(
        checks.switch, "on or off: on refuses new payments, for example while a restored database is reconciled", False
    )
    lab: bool | None = _setting(
        checks.switch, "on or off: serve the demonstration at /lab; on by default, but off with a real gateway", None
    )

    @property
    def has_lab(self) -> bool:
        """Return whether /lab is served. If LAB is not set, it is served only if no real money can move."""
        return self.payment_gateway == "sandbox" if self.lab is None else self.lab

    @property
    def gateway_places(self) -> int:
        """Return how many requests of a worker may wait for a gateway: its threads less a quarter, at least one."""
        return max(1, self.gunicorn_threads * 3 // 4)

    @property
    def all_hosts(self) -> tuple[str, ...]:
        return all_hosts(self.shop_hosts, self.shop_url)

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


def all_hosts(shop_hosts: tuple[str, ...], shop_url: str) -> tuple[str, ...]:
    """Return SHOP_HOSTS and the host of SHOP_URL."""
    return (*shop_hosts, *filter(None, [urlsplit(shop_url).hostname]))


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
