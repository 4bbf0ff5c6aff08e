"""The response to a request that never reaches the program."""

import socket
from contextlib import suppress
from http import HTTPStatus

from gunicorn.http import errors as unreadable

from app.errors import BY_STATUS, NOT_CHARGED
from app.security import FILE_HEADERS

STATUS = {
    unreadable.LimitRequestLine: 414,
    unreadable.LimitRequestHeaders: 431,
    unreadable.UnsupportedTransferCoding: 501,
    unreadable.ExpectationFailed: 417,
    unreadable.ForbiddenProxyRequest: 403,
}
"""The HTTP status of requests that gunicorn can't parse. It is 400 for all others."""

FAULTS_OF_OURS = (unreadable.InvalidResponseHeader, unreadable.InvalidResponseHeaderName)

LATE = f"The request took too long to arrive. {NOT_CHARGED} Go back, reload the page and try again."


def status_of(error: BaseException) -> int:
    """Return the HTTP status for an error that was raised outside the program."""
    if isinstance(error, unreadable.ParseException) and not isinstance(error, FAULTS_OF_OURS):
        return STATUS.get(type(error), 400)
    return 500


def send(connection: socket.socket, status: int) -> None:
    """Send a short plain text without waiting, and say that the connection will be closed."""
    known = BY_STATUS.get(status, BY_STATUS[400 if status < 500 else 500])
    text = LATE if status == 408 else f"{known.heading}. {' '.join(known.message)}"
    body = f"{text}\n".encode()
    headers = FILE_HEADERS | {
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Length": str(len(body)),
        "Cache-Control": "no-store",
        "Connection": "close",
    }
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    with suppress(OSError):
        connection.send("\r\n".join([*lines, "", ""]).encode() + body, socket.MSG_DONTWAIT)
