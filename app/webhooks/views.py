"""POST /webhooks/<gateway>: events that a gateway sends. They are signed, so they need no CSRF token."""

import structlog
from flask import Blueprint, Response, abort, request

from app import current
from app.database import Unreachable
from app.gateways.base import BadEvent, NotSent, Unknown
from app.places import NoPlace
from app.webhooks.receive import Later, receive

blueprint = Blueprint("webhooks", __name__)

LARGEST = 256 * 1024
"""Bytes of an event that are read."""

log = structlog.get_logger()


@blueprint.post("/webhooks/<gateway_name>")
def receive_event(gateway_name: str) -> Response:
    """POST /webhooks/<gateway>: 200 stored or ignored, 400 not the gateway's, 404 unknown gateway, 503 send it again.

    A gateway may forget an event only after a 2xx answer.
    """
    gateway = current.gateways().event_sender(gateway_name)
    if gateway is None:
        abort(404)
    request.max_content_length = LARGEST
    try:
        event = gateway.read_event(request.get_data(cache=False), dict(request.headers))
    except BadEvent as bad:
        return _plain(str(bad), 400)  # Neither stored nor logged, so that a flood costs only the check.
    try:
        with current.places().take():
            return _plain(receive(event, gateway, current.settings().gateway_deadline))
    except (NoPlace, NotSent, Unknown, Unreachable, Later) as doubt:
        log.warning("event_postponed", kind=event.kind, event_id=event.id, reason=str(doubt))
        return _plain("send it again later", 503)


def _plain(text: str, status: int = 200) -> Response:
    return Response(text + "\n", status, content_type="text/plain; charset=utf-8")
