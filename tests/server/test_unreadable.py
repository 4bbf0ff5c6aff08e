"""A request that gunicorn can't parse leaves none of its bytes in the log or the answer, and gets the usual headers."""

import pytest

from app.security import FILE_HEADERS
from tests.processes.running import RunningShop
from tests.server.raw import ask, connect

pytestmark = pytest.mark.slow

CARD = b"4242424242424242"
HEAD = b"POST /checkout HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"

BROKEN = {
    "method": b"P%s / HTTP/1.1\r\n\r\n",
    "no method": b"card_number=%s&card_cvc=123\r\n\r\n",
    "lower case method": b"post?%s /checkout HTTP/1.1\r\n\r\n",
    "target": b"GET  /%s HTTP/1.1\r\n\r\n",
    "version": b"GET / HTTP/%s\r\n\r\n",
    "long line": b"GET /" + b"x" * 5000 + b"%s HTTP/1.1\r\n\r\n",
    "header name": HEAD + b"card %s: x\r\n\r\n",
    "header without colon": HEAD + b"%s\r\n\r\n",
    "header value": HEAD + b"X-Card: %s\x00\r\n\r\n",
    "folded header": HEAD + b"X-Card: a\r\n %s\r\n\r\n",
    "long header": HEAD + b"X-Card: " + b"x" * 9000 + b"%s\r\n\r\n",
    "many headers": HEAD + b"".join(b"X-%d: %%s\r\n" % n for n in range(150)) + b"\r\n",
    "endless head": HEAD + b"X-Card: " + b"x" * 70_000 + b"%s",
    "content length": HEAD + b"Content-Length: %s-\r\n\r\n",
    "two content lengths": HEAD + b"Content-Length: 16\r\nContent-Length: 17\r\n\r\n%s",
    "both lengths": HEAD + b"Content-Length: 16\r\nTransfer-Encoding: chunked\r\n\r\n%s\r\n0\r\n\r\n",
    "transfer coding": HEAD + b"Transfer-Encoding: %s\r\n\r\n",
    "expectation": HEAD + b"Expect: %s\r\n\r\n",
    "chunk size": HEAD + b"Transfer-Encoding: chunked\r\n\r\n%sZ\r\nx\r\n0\r\n\r\n",
    "chunk end": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n%s\r\n0\r\n\r\n",
    "chunk extension": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;%s\x01\r\nx\r\n0\r\n\r\n",
    "chunk trailer": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\ncard %s: x\r\n\r\n",
    "long body": HEAD + b"Content-Length: 999999\r\n\r\n%s",
}
"""Each holds %s where the card number is put."""


def filled(request: bytes) -> bytes:
    return request.replace(b"%s", CARD)


def test_a_request_that_cannot_be_parsed_is_refused_without_its_bytes(running: RunningShop) -> None:
    for name, request in BROKEN.items():
        given = ask(running, filled(request))
        assert given.startswith("HTTP/1.1 "), name
        assert 400 <= int(given.split()[1]) < 600, (name, given)
        assert CARD.decode() not in given, name
        assert "This try took no money" in given or "see your payments" in given, (name, given)
        for header in FILE_HEADERS:
            assert f"{header}: " in given or 'href="/' in given, (name, header)
    assert running.stop() == 0
    output = running.log.read_text()
    assert output.count("request_refused") > len(BROKEN) / 2
    assert CARD.decode() not in output
    assert "Traceback" not in output


def test_a_request_that_ends_early_leaves_nothing_in_the_log(running: RunningShop) -> None:
    for name, request in BROKEN.items():
        whole = filled(request)
        connect(running, whole[: whole.rindex(CARD) + len(CARD)]).close()
        assert ask(running, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"), name
    assert running.stop() == 0
    assert CARD.decode() not in running.log.read_text()
