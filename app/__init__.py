"""PayOnce: a server-rendered checkout that charges an order at most once."""

from pathlib import Path

from flask import Flask

from app import assets, cli, current, database, errors, hosts, limiter, locale, logs, security, visits
from app.charges.tokens import Tokens
from app.gateways import registry
from app.gateways.base import Gateways
from app.health import metrics
from app.health.views import blueprint as health_views
from app.places import GatewayPlaces
from app.proxies import TrustedProxies
from app.settings import Settings
from app.shop import basket, catalogue, checkout, pages, receipts
from app.webhooks.views import blueprint as webhook_views

ROOT = Path(__file__).resolve().parent.parent


def create_app(settings: Settings | None = None, gateways: Gateways | None = None) -> Flask:
    """Create the shop.

    Without `settings`, read the environment; without `gateways`, use those that the settings describe.
    Raises SettingsError.
    """
    settings = settings or Settings.from_environ()
    gateways = gateways or registry.from_settings(settings)
    app = Flask(__name__, template_folder=str(ROOT / "templates"), static_folder=str(ROOT / "static"))
    app.config.update(SECRET_KEY=settings.secret_key, SECRET_KEY_FALLBACKS=list(settings.secret_key_fallbacks))
    tokens = Tokens(settings.secret_key, settings.secret_key_fallbacks)
    counter = limiter.make_limiter(settings.limits_storage_url)
    current.attach(app, current.Attached(settings, gateways, tokens, counter, GatewayPlaces(settings.gateway_places)))
    logs.init_app(app)
    database.init_app(app, settings.database_url)
    origins = [gateways.current.page_origin] if gateways.current.page_origin else []
    security.init_app(app, origins)
    hosts.init_app(app, settings.all_hosts)
    assets.init_app(app, ROOT / "static", security.FILE_HEADERS)
    # The last one is called first. Both wrap the middleware of the static files, so they work for those as well.
    strict = security.StrictTransport(app.wsgi_app, settings.hsts_subdomains)
    app.wsgi_app = TrustedProxies(strict, settings.trusted_proxies)  # type: ignore[method-assign]
    errors.init_app(app)
    locale.init_app(app)
    metrics.init_app(app)
    visits.init_app(app)
    cli.init_app(app)
    app.context_processor(
        lambda: {"shop_name": settings.shop_name, "demonstration": settings.payment_gateway == "sandbox"}
    )
    pages.register(app, catalogue.blueprint, basket.blueprint, checkout.blueprint, receipts.blueprint)
    app.register_blueprint(health_views)
    app.register_blueprint(webhook_views)
    return app
