"""The shop in this process, with a sandbox bank of its own and a database of either engine."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from flask import Flask
from sqlalchemy import text

import lab
from app import create_app
from app.database import db, reading, transaction
from app.gateways import registry
from app.gateways.base import Gateway, Gateways, StatementEntry
from app.gateways.sandbox.client import SandboxGateway
from app.settings import Settings
from sandbox_bank import create_bank
from sandbox_bank.accounts import account_id
from sandbox_bank.statement import statement
from tests.factories import API_KEY, SECRET, SHOP_ID
from tests.page import Shopper

ORIGIN = "http://127.0.0.1:8000"
BANK = "http://127.0.0.1:8010"


class ExchangeableGateways:
    """The gateways that a test hands to the app. A test can exchange them later, for example to break the network."""

    def __init__(self, gateways: Gateways) -> None:
        self._gateways = gateways

    def use(self, *known: Gateway) -> None:
        """Use these gateways from now on; the first one takes new charges."""
        self._gateways = Gateways(known[0], known, self._gateways.earlier_names)

    def use_all(self, gateways: Gateways) -> None:
        """Use these gateways from now on."""
        self._gateways = gateways

    def __getattr__(self, name: str) -> Any:
        return getattr(self._gateways, name)

    def __iter__(self) -> Any:
        return iter(self._gateways)


@dataclass
class Shop:
    """A shop, its database and its bank. `changes` are the settings that differ from the defaults of the tests."""

    database_url: str
    folder: Path
    changes: dict[str, Any] = field(default_factory=dict)
    bank: Flask = field(init=False)
    app: Flask = field(init=False)
    gateway: SandboxGateway = field(init=False)
    gateways: ExchangeableGateways = field(init=False)

    def __post_init__(self) -> None:
        books = f"sqlite:///{self.folder}/bank/bank.sqlite"
        hosts = {account_id(API_KEY): ["shop.example"]}
        self.bank = create_bank(books, return_hosts=hosts, slow_seconds=0.3, hold_seconds=0.3)
        self._create()

    def _create(self) -> None:
        settings = self.settings()
        self.gateways = ExchangeableGateways(registry.from_settings(settings))
        self.app = create_app(settings, self.gateways)  # type: ignore[arg-type]
        with self.app.app_context():
            if settings.has_lab:
                lab.init_app(self.app)
        self.use_transport(httpx.WSGITransport(app=self.bank))

    def settings(self, **changes: Any) -> Settings:
        """Return the settings of the app, with these changes."""
        defaults = {"secret_key": SECRET, "database_url": self.database_url, "gateway_deadline": 3.0}
        bank = {"sandbox_bank_url": BANK, "sandbox_api_key": API_KEY, "shop_id": SHOP_ID}
        return Settings(**(defaults | bank | self.changes | changes))

    def use_transport(self, transport: httpx.BaseTransport) -> None:
        """Send all requests to the bank through this httpx transport from now on, for example a broken one."""
        self.gateway = SandboxGateway(BANK, API_KEY, shop="Test shop", shop_id=SHOP_ID, transport=transport)
        self.gateways.use(self.gateway)

    def another(self, **changes: Any) -> "Shop":
        """Return a second shop on the same database and bank, like another host. `changes` are other settings."""
        other = Shop.__new__(Shop)
        other.database_url, other.folder, other.bank = self.database_url, self.folder, self.bank
        other.changes = self.changes | changes
        other._create()
        return other

    def shopper(self, origin: str = ORIGIN, like: Shopper | None = None, address: str = "127.0.0.1") -> Shopper:
        """Return a new browser. With `like`, it has the same cookies, as a second tab of that browser has."""
        transport = httpx.WSGITransport(app=self.app, raise_app_exceptions=False, remote_addr=address)
        cookies = httpx.Cookies(like.client.cookies) if like else None
        return Shopper(httpx.Client(transport=transport, base_url=origin, cookies=cookies))

    def statement(self) -> list[StatementEntry]:
        """Return the bank's own statement. It alone decides how often money moved."""
        return list(statement(self.bank.config["BOOKS"]))

    def rows(self, sql: str, **values: Any) -> list[Any]:
        """Return the rows of a SELECT, which runs in an app context of its own."""
        with self.app.app_context(), reading() as tx:
            return list(tx.execute(text(sql), values).all())

    def value(self, sql: str, **values: Any) -> Any:
        """Return the first column of the first row of a SELECT."""
        return self.rows(sql, **values)[0][0]

    def execute(self, sql: str, **values: Any) -> None:
        """Run a statement that changes the database without the program's knowledge."""
        with self.app.app_context(), transaction() as tx:
            tx.execute(text(sql), values)

    def stock(self, slug: str) -> int:
        """Return the stock of a product."""
        return int(self.value("SELECT stock FROM product WHERE slug = :slug", slug=slug))

    def charges(self) -> Counter[str]:
        """Return the number of charges in each state."""
        return Counter(status for (status,) in self.rows("SELECT status FROM charge"))

    def close(self) -> None:
        """Close every connection, so that the database can be dropped."""
        with self.app.app_context():
            db.engine.dispose()
        self.bank.config["BOOKS"].dispose()
