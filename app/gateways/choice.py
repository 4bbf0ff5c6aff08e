"""Which gateways there are: the one that new charges ask, and every one that an old charge may have to be asked at."""

from collections.abc import Iterator
from dataclasses import dataclass

from app.gateways.base import Gateway, Notifier
from app.gateways.sandbox.client import SandboxGateway
from app.gateways.stripe import start
from app.settings import Settings


@dataclass(frozen=True)
class Gateways:
    """`current` takes new charges. A charge is asked about only where it was made."""

    current: Gateway
    known: tuple[Gateway, ...]

    def of(self, name: str, account: str) -> Gateway | None:
        """The gateway and account that a charge remembers, None where its settings are gone."""
        return next((known for known in self.known if (known.name, known.account) == (name, account)), None)

    def notifier(self, name: str) -> Notifier | None:
        """The gateway of this name, if it sends webhooks."""
        return next((known for known in self.known if known.name == name and isinstance(known, Notifier)), None)

    def __iter__(self) -> Iterator[Gateway]:
        return iter(self.known)


def choose(settings: Settings) -> Gateways:
    """The gateways of these settings. What is set for more than the chosen one stays known. Raises SettingsError."""
    sandbox = SandboxGateway(settings.sandbox_bank_url, shop=settings.shop_name)
    stripe = start.from_settings(settings)
    if stripe is None:
        return Gateways(sandbox, (sandbox,))
    return Gateways(stripe if settings.payment_gateway == "stripe" else sandbox, (stripe, sandbox))
