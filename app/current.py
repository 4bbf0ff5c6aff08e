"""Typed access to what `create_app` attached to the current Flask application."""

from dataclasses import dataclass

from flask import Flask, current_app
from limits.strategies import RateLimiter

from app.charges.tokens import Tokens
from app.gateways.base import Gateways
from app.places import GatewayPlaces
from app.settings import Settings

NAME = "payonce"


@dataclass(frozen=True)
class Attached:
    """Everything that views and commands need and that is made once per application."""

    settings: Settings
    gateways: Gateways
    tokens: Tokens
    limiter: RateLimiter
    places: GatewayPlaces


def attach(app: Flask, attached: Attached) -> None:
    """Store it on the application. Flask gives extensions a dictionary; this is its only use in PayOnce."""
    app.extensions[NAME] = attached


def settings() -> Settings:
    """Return the settings that the application was created with."""
    return _attached().settings


def gateways() -> Gateways:
    """Return the gateway for new charges and every gateway that earlier charges were made at."""
    return _attached().gateways


def tokens() -> Tokens:
    """Return the object that makes and reads checkout tokens."""
    return _attached().tokens


def limiter() -> RateLimiter:
    """Return the counter behind every rate limit."""
    return _attached().limiter


def places() -> GatewayPlaces:
    """Return the places at the gateway of this process."""
    return _attached().places


def _attached() -> Attached:
    attached: Attached = current_app.extensions[NAME]
    return attached
