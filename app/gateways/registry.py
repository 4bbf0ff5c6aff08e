"""The one list of gateways. CONTRIBUTING.md names the files of a new gateway; it is registered here."""

from app.gateways.base import Gateways
from app.gateways.sandbox.client import SandboxGateway
from app.gateways.stripe import start
from app.settings import Settings


def from_settings(settings: Settings) -> Gateways:
    """Return the gateways that these settings describe.

    A gateway that is configured but not chosen stays known, because earlier charges may have been made there.
    Raises SettingsError.
    """
    sandbox = SandboxGateway(settings.sandbox_bank_url, shop=settings.shop_name)
    stripe = start.from_settings(settings)
    if stripe is None:
        return Gateways(sandbox, (sandbox,))
    return Gateways(stripe if settings.payment_gateway == "stripe" else sandbox, (stripe, sandbox))
