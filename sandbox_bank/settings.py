"""The bank's settings. The bank needs no secret of the shop."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from app.settings import read


@dataclass(frozen=True)
class BankSettings:
    """The bank's address and its database URL."""

    url: str
    database_url: str

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> "BankSettings":
        """Read SANDBOX_BANK_URL and SANDBOX_DATABASE_URL, with the shop's defaults. Raises SettingsError."""
        return cls(read("sandbox_bank_url", environ), read("sandbox_database_url", environ))
