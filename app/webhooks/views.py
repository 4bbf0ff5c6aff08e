"""POST /webhooks/stripe. Signed, so without CSRF. 2xx only where the gateway may forget the event."""

import structlog
from flask import Blueprint, Response, abort, current_app, request

from app.database import Unreachable
from app.gateways.base import BadNotice, NotSent, Unknown
from app.webhooks.receive import Later, receive

bp = Blueprint("webhooks", __name__)

LARGEST = 256 * 1024
"""Bytes of an event that are read."""

log = structlog.get_logger()


@bp.post("/webhooks/stripe")
def stripe() -> Response:
    """200: stored, or of no concern. 400: not the provider's. 503: tell it again later."""
    gateway = current_app.extensions["gateways"].notifier("stripe")
    if gateway is None:
        abort(404)
    request.max_content_length = LARGEST
    try:
        notice = gateway.read_webhook(request.get_data(cache=False), request.headers.get("Stripe-Signature", ""))
    except BadNotice as bad:
        return _plain(str(bad), 400)  # Neither a row nor a line in the log: a flood costs a sum over each body.
    try:
        return _plain(receive(notice, gateway, current_app.config["SETTINGS"].gateway_deadline))
    except (NotSent, Unknown, Unreachable, Later) as doubt:
        log.warning("webhook_later", kind=notice.kind, reason=str(doubt))
        return _plain("tell it again later", 503)


def _plain(text: str, status: int = 200) -> Response:
    return Response(text + "\n", status, content_type="text/plain; charset=utf-8")
