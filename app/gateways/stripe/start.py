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
    _check_security(settings)
    if chosen:
        _check_limits(settings)
    api = settings.stripe_api_base
    return StripeGateway(
        key, settings.stripe_webhook_secret, window=settings.action_window, api_base=api,
        page_origin=PAGE if _is_provider(api) else api, shop_id=settings.shop_id, transport=transport,
    )  # fmt: skip


def _check_security(settings: Settings) -> None:
    """Raise SettingsError if secrets would be sent unencrypted, or if a real shop would not learn of its payments."""
    api = settings.stripe_api_base
    if not (api.startswith("https://") or _is_loopback(api)):
        raise SettingsError("STRIPE_API_BASE must begin with https:// (http:// only on this machine, for tests)")
    if "_live_" not in settings.stripe_secret_key:
        return
    if not _is_provider(api):
        raise SettingsError("STRIPE_API_BASE is not Stripe's, but STRIPE_SECRET_KEY is a live key; unset one of them")
    if not settings.stripe_webhook_secret:
        raise SettingsError("STRIPE_WEBHOOK_SECRET is not set; a live STRIPE_SECRET_KEY needs its webhook's secret")
    if not settings.trusted_proxies:
        raise SettingsError(
            "TRUSTED_PROXIES is not set, so shoppers would not use HTTPS; a live STRIPE_SECRET_KEY needs HTTPS"
        )


def _check_limits(settings: Settings) -> None:
    """Raise SettingsError if Stripe can't do what the settings ask for."""
    if not currencies.supported(settings.shop_currency):
        raise SettingsError(f"SHOP_CURRENCY {settings.shop_currency} is not supported by Stripe; choose another")
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
