"""PayOnce: a server-rendered checkout that cannot charge twice."""

from importlib import import_module
from pathlib import Path

from flask import Flask

from app import assets, cli, database, errors, locale, logs, security
from app.charges.tokens import Tokens
from app.gateways.choice import choose
from app.health import metrics
from app.health.views import bp as health
from app.settings import Settings
from app.shop import bp as shop
from app.shop.views import basket_count
from app.webhooks.views import bp as webhooks

ROOT = Path(__file__).resolve().parent.parent


def create_app(settings: Settings | None = None) -> Flask:
    """The shop. Reads the environment where no settings are given. Raises SettingsError."""
    settings = settings or Settings.from_environ()
    app = Flask(__name__, template_folder=str(ROOT / "templates"), static_folder=str(ROOT / "static"))
    app.config.update(
        SETTINGS=settings, SECRET_KEY=settings.secret_key, SECRET_KEY_FALLBACKS=list(settings.secret_key_fallbacks)
    )
    gateways = choose(settings)
    app.extensions["gateways"] = gateways
    app.extensions["tokens"] = Tokens(settings.secret_key, settings.secret_key_fallbacks)
    logs.init_app(app)
    database.init_app(app, settings.database_url)
    origins = [gateways.current.page_origin] if gateways.current.page_origin else []
    security.init_app(app, settings.shop_hosts, settings.trusted_proxies, origins, settings.limits_storage_url)
    assets.init_app(app, ROOT / "static", security.FILE_HEADERS)
    errors.init_app(app)
    locale.init_app(app)
    metrics.init_app(app)
    cli.init_app(app)
    app.context_processor(
        lambda: {
            "shop_name": settings.shop_name,
            "basket_count": basket_count(),
            "demonstration": settings.payment_gateway == "sandbox",
        }
    )
    app.register_blueprint(shop)
    app.register_blueprint(health)
    app.register_blueprint(webhooks)
    if settings.has_lab:
        import_module("app.lab").init_app(app)  # Only here, and only where it is on: nothing else knows of it.
    return app
