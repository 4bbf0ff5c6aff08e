"""The bank's settings. It needs no secret of the shop but the key that opens the shop's account."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from app.settings import read, read_or_make


@dataclass(frozen=True)
class BankSettings:
    """The bank's address, its database URL, and the API key whose account is opened first."""

    url: str
    database_url: str
    api_key: str = field(repr=False)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> "BankSettings":
        """Read SANDBOX_BANK_URL, SANDBOX_DATABASE_URL and SANDBOX_API_KEY as the shop does. Raises SettingsError."""
        api_key = read_or_make("sandbox_api_key", environ)
        return cls(read("sandbox_bank_url", environ), read("sandbox_database_url", environ), api_key)
