"""The checks of settings: each turns the text of an environment variable into its value, or raises ValueError.

A message that begins with "must" is shown after the variable's name.
"""

import re
from ipaddress import ip_network
from urllib.parse import urlsplit

import psycopg2
from psycopg2 import extensions
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from app import money
from app.guessable import is_guessable

HOW_TO_MAKE_ONE = "`openssl rand -hex 32` makes a good one"


def text(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError("must be one line of text")
    return value.strip()


def secret(value: str) -> str:
    if is_guessable(_long(value)):
        raise ValueError(f"must not be easy to guess; {HOW_TO_MAKE_ONE}")
    return value


def earlier_secrets(value: str) -> tuple[str, ...]:
    """Return the secrets. One that is easy to guess is accepted, so that a shop can leave it without losing baskets."""
    return tuple(_long(part.strip()) for part in value.split(",") if part.strip())


def _long(value: str) -> str:
    if len(value) < 16:
        raise ValueError(f"must have at least 16 characters; {HOW_TO_MAKE_ONE}")
    return value


def api_key(value: str) -> str:
    if not re.fullmatch(r"[!-~]{32,200}", value):
        raise ValueError(f"must have 32 to 200 characters and no spaces; {HOW_TO_MAKE_ONE}")
    return secret(value)


token = api_key


def shop_id(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", value):
        raise ValueError("must have at most 64 letters, digits and . _ -")
    return value


def threads(value: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,2}", value):
        raise ValueError("must be a number from 1 to 999")
    return int(value)


def seconds(value: str) -> float:
    seconds = float(value)
    if not 0 < seconds <= 86_400:
        raise ValueError("must be a number of seconds between 0 and 86400")
    return seconds


SEVERAL = re.compile(r"^(?P<start>[^/]*//(?:[^/?]*@)?)(?P<hosts>[^/?]*,[^/?]*)(?P<path>/[^?]*)?(?:\?(?P<query>.*))?$")
"""A URL with several hosts as PostgreSQL's own programs write it."""

WRITABLE = {"read-write", "primary"}
"""The values of target_session_attrs with which the driver does not stay with a standby."""


def pause(value: str) -> float:
    return 0.0 if value.strip() == "0" else seconds(value)


def database(value: str) -> str:
    """Return the URL with the driver's name: in SQLAlchemy 2.1 `postgresql://` means psycopg 3, but we use psycopg2.

    Several hosts (h1:5432,h2:5432) become what SQLAlchemy reads.
    """
    text = re.sub(r"^postgres(ql)?://", "postgresql+psycopg2://", value)
    if not re.match(r"^(postgresql\+psycopg2|sqlite)://", text):
        raise ValueError("must begin with postgresql:// or sqlite:///")
    try:
        url = make_url(_several_hosts(text))
        options = url.get_dialect()().create_connect_args(url)[1]
        if url.get_backend_name() == "sqlite":
            return text
        extensions.make_dsn(**options)
    except (ValueError, ArgumentError, psycopg2.Error):
        raise ValueError(
            "must be a URL such as postgresql://user:password@host:5432/name or sqlite:////path; characters such as "
            "@ : / in the password must be percent-encoded"
        ) from None
    target = options.get("target_session_attrs", "any")
    if "," in str(options.get("host", "")) and target not in WRITABLE:
        raise ValueError("must end with ?target_session_attrs=read-write, because it has several hosts")
    if target not in WRITABLE | {"any"}:
        raise ValueError("must have target_session_attrs=read-write, because a standby can't take payments")
    return url.render_as_string(hide_password=False)


def _several_hosts(url: str) -> str:
    """Return the URL with its hosts in the form ?host=h1,h2&port=5432,5432. Raises ValueError."""
    found = SEVERAL.match(url)
    if found is None:
        return url
    parts = [urlsplit(f"//{each}") for each in found["hosts"].split(",")]
    if not all(part.hostname for part in parts):
        raise ValueError
    hosts = ",".join(str(part.hostname) for part in parts)
    ports = ",".join(str(part.port or 5432) for part in parts)
    rest = f"&{found['query']}" if found["query"] else ""
    return f"{found['start']}{found['path'] or '/'}?host={hosts}&port={ports}{rest}"


def origin(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValueError("must be an origin such as http://127.0.0.1:8010")
    parts.port  # noqa: B018 - raises ValueError if the port is invalid.
    return value.rstrip("/")


def smtp(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"smtp", "smtps"} or not parts.hostname:
        raise ValueError("must be smtp://host:port or smtps://host:port")
    return value


def sender(value: str) -> str:
    if not re.fullmatch(r"[\w.+'-]+@[\w.-]+", value, re.ASCII):
        raise ValueError("must be an e-mail address in ASCII (grün.de is xn--grn-ioa.de)")
    return value


def gateway(value: str) -> str:
    if value not in {"sandbox", "stripe"}:
        raise ValueError("must be sandbox or stripe")
    return value


def stripe_key(value: str) -> str:
    modes = set(re.findall(r"(?:sk|rk)_(live|test)_", value))
    if modes == {"live", "test"}:
        raise ValueError("must not hold a test key together with a live one: a shop takes either real money or none")
    if not re.fullmatch(r"(sk|rk)_(live|test)_[A-Za-z0-9_]{8,}", value):
        raise ValueError("must be one secret key of the account, such as sk_test_… or sk_live_…")
    return value


def webhook_secrets(value: str) -> tuple[str, ...]:
    secrets = tuple(part.strip() for part in value.split(",") if part.strip())
    if not all(re.fullmatch(r"whsec_[A-Za-z0-9+/=_-]{8,}", secret) for secret in secrets):
        raise ValueError("must be the webhook's signing secret, whsec_…; during a rotation several, comma separated")
    return secrets


def currency(value: str) -> str:
    if value not in money.currencies():
        raise ValueError("must be an ISO 4217 currency code in use, such as EUR, USD, JPY or KWD")
    return value


def networks(value: str) -> tuple[str, ...]:
    return tuple(str(ip_network(part.strip())) for part in value.split(",") if part.strip())


def hosts(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def switch(value: str) -> bool:
    if value not in {"on", "off"}:
        raise ValueError("must be on or off")
    return value == "on"
