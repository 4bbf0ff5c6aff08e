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
    sandbox = SandboxGateway(
        settings.sandbox_bank_url, settings.sandbox_api_key, shop=settings.shop_name, shop_id=settings.shop_id
    )
    stripe = start.from_settings(settings)
    # Before there were API keys, the bank had one account. The first key adopted its books.
    earlier_names = {("sandbox", "sandbox"): sandbox.account}
    if stripe is None:
        return Gateways(sandbox, (sandbox,), earlier_names)
    known = (stripe, sandbox) if settings.sandbox_api_key else (stripe,)
    return Gateways(stripe if settings.payment_gateway == "stripe" else sandbox, known, earlier_names)
