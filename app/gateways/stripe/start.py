"""Create the gateway from the settings. Settings that would lose money or secrets stop the start with one line."""

from ipaddress import ip_address
from urllib.parse import urlsplit

import httpx

from app.gateways.stripe import currencies
from app.gateways.stripe.gateway import StripeGateway
from app.gateways.stripe.requests import LONGEST_WINDOW
from app.settings import Settings, SettingsError

PAGE = "https://checkout.stripe.com"


def from_settings(settings: Settings, transport: httpx.BaseTransport | None = None) -> StripeGateway | None:
    """Return the gateway, or None if it is not configured. Raises SettingsError."""
    chosen, key = settings.payment_gateway == "stripe", settings.stripe_secret_key
    if not key:
        if chosen:
            raise SettingsError("STRIPE_SECRET_KEY is not set; PAYMENT_GATEWAY=stripe needs the account's secret key")
        return None
    _refuse_careless(settings)
    if chosen:
        _refuse_impossible(settings)
    api = settings.stripe_api_base
    return StripeGateway(
        key, settings.stripe_webhook_secret, window=settings.action_window, api_base=api,
        page_origin=PAGE if _is_provider(api) else api, transport=transport,
    )  # fmt: skip


def _refuse_careless(settings: Settings) -> None:
    """Refuse settings that would send secrets unencrypted, or let a real shop miss its payments."""
    api = settings.stripe_api_base
    if not (api.startswith("https://") or _is_loopback(api)):
        raise SettingsError("STRIPE_API_BASE must begin with https:// (http:// only on this machine, for tests)")
    if "_live_" not in settings.stripe_secret_key:
        return
    if not _is_provider(api):
        raise SettingsError("STRIPE_API_BASE is not Stripe's, but STRIPE_SECRET_KEY is a live key: unset the one")
    if not settings.stripe_webhook_secret:
        raise SettingsError("STRIPE_WEBHOOK_SECRET is not set; a live STRIPE_SECRET_KEY needs its webhook's secret")
    if not settings.trusted_proxies:
        raise SettingsError(
            "TRUSTED_PROXIES is not set, so no shopper would come by HTTPS; a live STRIPE_SECRET_KEY needs HTTPS"
        )


def _refuse_impossible(settings: Settings) -> None:
    if not currencies.supported(settings.shop_currency):
        raise SettingsError(f"SHOP_CURRENCY {settings.shop_currency} is not taken by Stripe; choose another")
    if settings.action_window > LONGEST_WINDOW:
        raise SettingsError(f"ACTION_WINDOW must be {LONGEST_WINDOW} seconds or fewer with Stripe")


def _is_provider(api: str) -> bool:
    return urlsplit(api).hostname == "api.stripe.com"


def _is_loopback(api: str) -> bool:
    host = urlsplit(api).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
