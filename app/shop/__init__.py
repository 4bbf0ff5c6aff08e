"""The shopper's pages: catalogue and basket (views), the one form that pays (checkout), receipts."""

from flask import Blueprint

bp = Blueprint("shop", __name__)

from app.shop import checkout, receipts, views  # noqa: E402, F401  (each puts its pages on `bp`)
