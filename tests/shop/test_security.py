"""The protection of every view, as a client sees it."""

import json
from collections.abc import Callable
from time import monotonic

import flask
import httpx
import pytest

from app import logs
from tests.factories import MUG, checkout_form, fill_basket, ready_to_pay
from tests.shops import Shop

HEADERS = {
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin",
}  # fmt: skip


def policy(response: httpx.Response) -> dict[str, str]:
    """Return the Content-Security-Policy by directive."""
    parts = (part.strip().partition(" ") for part in response.headers["Content-Security-Policy"].split(";"))
    return {name: value for name, _, value in parts}


def break_catalogue(shop: Shop) -> None:
    """Replace the catalogue's view by one that raises an exception."""
    shop.app.view_functions["catalogue.index"] = lambda: 1 / 0


def test_every_response_has_the_security_headers(shop: Shop) -> None:
    form = ready_to_pay(shop.shopper())
    client = form.page.shopper.client
    receipt = form.post()
    paths = ("/", f"/products/{MUG}", "/basket", "/receipts", "/healthz", "/readyz", "/metrics", "/nothing",
             receipt.headers["Location"])  # fmt: skip
    responses = [client.get(path) for path in paths]
    responses += [receipt, client.put("/checkout"), client.post("/checkout", data={}), client.post("/basket", json={})]
    break_catalogue(shop)
    responses.append(client.get("/"))
    assert {200, 303, 404, 405, 400, 415, 500} <= {response.status_code for response in responses}
    for response in responses:
        assert {name: response.headers.get(name) for name in HEADERS} == HEADERS, response.url
        rules = policy(response)
        assert rules["default-src"] == "'none'"
        assert rules["frame-ancestors"] == "'none'"
        assert rules["base-uri"] == "'none'"
        assert rules["form-action"] == "'self' http://127.0.0.1:8010", "a payment may be redirected to the bank"
        assert rules["script-src"] == rules["style-src"] == rules["img-src"] == "'self'"
        assert "unsafe" not in response.headers["Content-Security-Policy"]
        assert len(response.headers["X-Request-Id"]) == 32


def test_an_exception_shows_our_own_error_page(shop: Shop) -> None:
    break_catalogue(shop)
    page = shop.shopper().open("/")
    assert (page.status, page.heading) == (500, "The shop made a mistake")
    assert "see your payments before you try again" in page.text
    assert "ZeroDivisionError" not in page.response.text


def test_a_traceback_is_one_redacted_line_of_json(shop: Shop, capfd: pytest.CaptureFixture[str]) -> None:
    """The text of an exception may contain what a shopper has entered."""

    def fail() -> None:
        raise ValueError("row (ada@example.org, 4012 8888 8888 1881) at postgresql://shop:hunter2@db/shop")

    shop.app.view_functions["catalogue.index"] = fail
    assert shop.shopper().open("/").status == 500
    line, finished = capfd.readouterr().err.splitlines()
    assert json.loads(finished)["event"] == "request_finished"
    logged = json.loads(line)
    assert (logged["event"], logged["level"], logged["endpoint"]) == ("request_failed", "error", "catalogue.index")
    assert "in fail" in logged["exception"] and "ValueError" in logged["exception"]
    for private in ("ada@", "4012", "1881", "hunter2"):
        assert private not in line.partition("ValueError: ")[2]


def test_static_files_have_headers_of_their_own(shop: Shop) -> None:
    shopper = shop.shopper()
    styles = shopper.open("/").root.first("link", rel="stylesheet")
    assert styles is not None
    response = shopper.client.get(styles.attrs["href"])
    assert response.status_code == 200
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in response.headers
    assert "immutable" in response.headers["Cache-Control"]
    assert "Set-Cookie" not in response.headers


def test_private_pages_are_not_stored(shop: Shop) -> None:
    form = ready_to_pay(shop.shopper())
    client = form.page.shopper.client
    for response in (client.get("/basket"), client.get("/checkout"), form.post()):
        assert response.headers["Cache-Control"] == "no-store"
    assert client.get("/receipts").headers["Cache-Control"] == "no-store"


def test_no_page_needs_a_script(shop: Shop) -> None:
    """Every button submits a form, so it works without JavaScript."""
    shopper = shop.shopper()
    for page in (shopper.open("/"), fill_basket(shopper), shopper.open("/checkout")):
        for button in page.root.all("button"):
            assert button.attrs.get("type") == "submit"


def test_the_cookie_over_http(shop: Shop) -> None:
    response = shop.shopper().client.get(f"/products/{MUG}")
    cookie = response.headers["Set-Cookie"]
    assert cookie.startswith("payonce=")
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    assert "Secure" not in cookie
    assert "Strict-Transport-Security" not in response.headers


@pytest.fixture
def behind_tls(make_shop: Callable[..., Shop]) -> Shop:
    """Return a shop that trusts a proxy at 10.0.0.1, which ends TLS."""
    return make_shop(trusted_proxies=("10.0.0.1/32",))


def test_the_cookie_behind_tls(behind_tls: Shop) -> None:
    client = behind_tls.shopper(address="10.0.0.1").client
    response = client.get(f"/products/{MUG}", headers={"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9"})
    cookie = response.headers["Set-Cookie"]
    assert cookie.startswith("__Host-payonce=")
    assert {"Secure", "HttpOnly", "SameSite=Lax", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    assert "Domain" not in cookie
    assert response.headers["Strict-Transport-Security"].startswith("max-age=")


@pytest.mark.parametrize(("subdomains", "header"), [(False, "max-age=31536000"),
                                                    (True, "max-age=31536000; includeSubDomains")])  # fmt: skip
def test_every_response_over_tls_asks_for_tls(make_shop: Callable[..., Shop], subdomains: bool, header: str) -> None:
    shop = make_shop(trusted_proxies=("10.0.0.1/32",), hsts_subdomains=subdomains)
    client = shop.shopper(address="10.0.0.1").client
    client.headers["X-Forwarded-Proto"] = "https"
    styles = shop.shopper().open("/").root.first("link", rel="stylesheet")
    assert styles is not None
    for path in ("/", "/nothing", "/healthz", styles.attrs["href"], "/static/nothing.css"):
        assert client.get(path).headers.get_list("Strict-Transport-Security") == [header], path
    assert client.get("/", headers={"Host": "evil.example"}).headers["Strict-Transport-Security"] == header


def test_only_a_trusted_proxy_can_say_that_a_request_used_tls(behind_tls: Shop) -> None:
    response = behind_tls.shopper(address="10.0.0.2").client.get("/", headers={"X-Forwarded-Proto": "https"})
    assert "Strict-Transport-Security" not in response.headers


def test_paying_behind_tls(behind_tls: Shop) -> None:
    """The form is sent with the Referer and Origin that a browser sends over TLS, because the CSRF check reads them."""
    shopper = behind_tls.shopper(origin="https://127.0.0.1", address="10.0.0.1")
    shopper.client.headers.update({"X-Forwarded-Proto": "https", "Referer": "https://127.0.0.1/checkout"})
    assert ready_to_pay(shopper).submit().heading == "Paid: €24.00"


def test_a_client_cannot_forge_its_address(behind_tls: Shop) -> None:
    """The client's address is the last one in X-Forwarded-For that is not a trusted proxy."""
    seen = []

    @behind_tls.app.before_request
    def _append_address() -> None:
        seen.append(flask.request.remote_addr)

    proxied, direct = behind_tls.shopper(address="10.0.0.1").client, behind_tls.shopper(address="198.51.100.7").client
    for client, forwarded in ((proxied, "1.2.3.4, 203.0.113.9"), (proxied, "203.0.113.9, 10.0.0.1"), (proxied, ""),
                              (direct, "1.2.3.4"), (proxied, "<script>, 203.0.113.9")):  # fmt: skip
        client.get("/healthz", headers={"X-Forwarded-For": forwarded})
    assert seen == ["203.0.113.9", "203.0.113.9", "10.0.0.1", "198.51.100.7", "203.0.113.9"]


def test_a_proxy_that_is_not_listed_is_warned_about_once_a_minute(
    behind_tls: Shop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise all shoppers behind it would be counted as one, and nobody would know."""
    forwarded = {"X-Forwarded-For": "203.0.113.9"}

    def warned() -> list[str]:
        lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
        return [line["peer"] for line in lines if line["event"] == "proxy_not_trusted"]

    for peer in ("10.0.0.1", "10.0.0.2", "10.0.0.2", "10.0.0.3"):
        behind_tls.shopper(address=peer).client.get("/", headers=forwarded)
    behind_tls.shopper(address="10.0.0.4").client.get("/")
    assert warned() == ["10.0.0.2"]
    monkeypatch.setattr(logs, "monotonic", lambda: monotonic() + 61)
    behind_tls.shopper(address="10.0.0.3").client.get("/", headers=forwarded)
    assert warned() == ["10.0.0.3"]


def test_no_redirect_leads_to_another_site(shop: Shop) -> None:
    form = ready_to_pay(shop.shopper())
    form.fields |= {"next": "https://evil.example", "return_url": "//evil.example"}
    responses = [
        form.post(params={"next": "https://evil.example"}),
        form.post(headers={"Referer": "https://evil.example"}),
    ]
    assert {response.headers["Location"].partition("/receipts/")[0] for response in responses} == {""}


def test_a_form_cannot_set_the_amount(shop: Shop) -> None:
    form = ready_to_pay(shop.shopper())
    form.fields |= {"amount": "1", "total": "1", "price": "1", "currency": "JPY"}
    form.submit()
    assert [(entry.amount, entry.currency) for entry in shop.statement()] == [(2400, "EUR")]


def test_receipt_addresses_are_long_and_differ(shop: Shop) -> None:
    links = {ready_to_pay(shop.shopper(), email=f"a{n}@example.org").submit().path for n in range(3)}
    assert len(links) == 3
    assert all(len(link.removeprefix("/receipts/")) == 36 for link in links)


def test_every_form_has_a_csrf_token(shop: Shop) -> None:
    shopper = shop.shopper()
    receipt = ready_to_pay(shopper).submit()
    pages = [receipt, shopper.open(f"/products/{MUG}"), fill_basket(shopper), shopper.open("/checkout")]
    forms = [form for page in pages for form in page.root.all("form", method="post")]
    assert len(forms) >= 4
    for form in forms:
        assert form.first("input", name="csrf_token", type="hidden") is not None


def test_two_first_pages_at_once_end_with_one_buyer(shop: Shop) -> None:
    """Two tabs open before the browser has a cookie. Each gets one, and the browser keeps the second."""
    shopper = shop.shopper()
    in_tab_1, in_tab_2 = shopper.open(f"/products/{MUG}"), shop.shopper().open(f"/products/{MUG}")
    shopper.client.cookies = in_tab_2.shopper.client.cookies
    refused = in_tab_1.submit("Add to basket", quantity=1)
    assert refused.status == 400
    assert "Morning mug" in refused.submit("Add to basket", quantity=1).text
    assert checkout_form(shopper).submit().heading == "Paid: €24.00"
