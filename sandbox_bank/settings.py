"""The bank's settings. It needs no secret of the shop but the key that opens the shop's account."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from app.settings import all_hosts, read, read_or_make


@dataclass(frozen=True)
class BankSettings:
    """The bank's address, its database URL, the API key whose account is opened first, and its shop's host names."""

    url: str
    database_url: str
    api_key: str = field(repr=False)
    shop_hosts: tuple[str, ...]

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> "BankSettings":
        """Read its settings, SANDBOX_API_KEY, SHOP_HOSTS and SHOP_URL as the shop does. Raises SettingsError."""
        api_key = read_or_make("sandbox_api_key", environ)
        hosts = all_hosts(read("shop_hosts", environ), read("shop_url", environ))
        return cls(read("sandbox_bank_url", environ), read("sandbox_database_url", environ), api_key, hosts)
