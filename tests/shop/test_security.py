"""What stands before every door, each seen from outside."""

from collections.abc import Callable

import flask
import httpx
import pytest

from tests.factories import MUG, checkout_form, fill_basket, ready_to_pay
from tests.shops import Shop

HEADERS = {
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin",
}  # fmt: skip


def policy(answer: httpx.Response) -> dict[str, str]:
    parts = (part.strip().partition(" ") for part in answer.headers["Content-Security-Policy"].split(";"))
    return {name: value for name, _, value in parts}


def break_it(shop: Shop) -> None:
    """A mistake of ours behind a page that is there: a 500."""
    shop.app.view_functions["catalogue.index"] = lambda: 1 / 0


def test_every_answer_bears_the_headers(shop: Shop) -> None:
    form = ready_to_pay(shop.shopper())
    client = form.page.shopper.client
    receipt = form.post()
    answers = [client.get(path) for path in ("/", f"/products/{MUG}", "/basket", "/receipts", "/healthz", "/readyz",
                                             "/metrics", "/nothing", receipt.headers["Location"])]  # fmt: skip
    answers += [receipt, client.put("/checkout"), client.post("/checkout", data={}), client.post("/basket", json={})]
    break_it(shop)
    answers.append(client.get("/"))
    assert {200, 303, 404, 405, 400, 415, 500} <= {answer.status_code for answer in answers}
    for answer in answers:
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS, answer.url
        rules = policy(answer)
        assert rules["default-src"] == "'none'"
        assert rules["frame-ancestors"] == "'none'"
        assert rules["base-uri"] == "'none'"
        assert rules["form-action"] == "'self' http://127.0.0.1:8010", "the redirect may lead on to the bank"
        assert rules["script-src"] == rules["style-src"] == rules["img-src"] == "'self'"
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert len(answer.headers["X-Request-Id"]) == 32


def test_a_mistake_of_ours_is_a_page_of_ours(shop: Shop) -> None:
    break_it(shop)
    page = shop.shopper().open("/")
    assert (page.status, page.heading) == (500, "The shop made a mistake")
    assert "see your payments before you try again" in page.text
    assert "ZeroDivisionError" not in page.answer.text


def test_static_files_bear_headers_too(shop: Shop) -> None:
    shopper = shop.shopper()
    styles = shopper.open("/").root.first("link", rel="stylesheet")
    assert styles is not None
    answer = shopper.client.get(styles.attrs["href"])
    assert answer.status_code == 200
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert "immutable" in answer.headers["Cache-Control"]
    assert "Set-Cookie" not in answer.headers


def test_private_pages_are_not_stored(shop: Shop) -> None:
    form = ready_to_pay(shop.shopper())
    client = form.page.shopper.client
    for answer in (client.get("/basket"), client.get("/checkout"), form.post()):
        assert answer.headers["Cache-Control"] == "no-store"
    assert client.get("/receipts").headers["Cache-Control"] == "no-store"


def test_no_page_needs_a_script(shop: Shop) -> None:
    """Nor does any: forms post, links lead, waiting pages refresh by meta."""
    shopper = shop.shopper()
    for page in (shopper.open("/"), fill_basket(shopper), shopper.open("/checkout")):
        for button in page.root.all("button"):
            assert button.attrs.get("type") == "submit"


def test_the_cookie(shop: Shop) -> None:
    answer = shop.shopper().client.get(f"/products/{MUG}")
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("payonce=")
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    assert "Secure" not in cookie
    assert "Strict-Transport-Security" not in answer.headers


@pytest.fixture
def behind_tls(make_shop: Callable[..., Shop]) -> Shop:
    return make_shop(trusted_proxies=("10.0.0.1/32",))


def test_behind_tls(behind_tls: Shop) -> None:
    client = behind_tls.shopper(address="10.0.0.1").client
    answer = client.get(f"/products/{MUG}", headers={"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9"})
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-payonce=")
    assert {"Secure", "HttpOnly", "SameSite=Lax", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    assert "Domain" not in cookie
    assert answer.headers["Strict-Transport-Security"].startswith("max-age=")


def test_only_trusted_proxies_vouch_for_tls(behind_tls: Shop) -> None:
    answer = behind_tls.shopper(address="10.0.0.2").client.get("/", headers={"X-Forwarded-Proto": "https"})
    assert "Strict-Transport-Security" not in answer.headers


def test_paying_behind_tls(behind_tls: Shop) -> None:
    """With the Referer and Origin that a browser sends there."""
    shopper = behind_tls.shopper(origin="https://127.0.0.1", address="10.0.0.1")
    shopper.client.headers.update({"X-Forwarded-Proto": "https", "Referer": "https://127.0.0.1/checkout"})
    assert ready_to_pay(shopper).submit().heading == "Paid: €24.00"


def test_the_limits_key_can_not_be_forged(behind_tls: Shop) -> None:
    """Whatever a client writes into X-Forwarded-For, what counts is the nearest address that is no proxy of ours."""
    seen = []

    @behind_tls.app.before_request
    def _note() -> None:
        seen.append(flask.request.remote_addr)

    proxied, direct = behind_tls.shopper(address="10.0.0.1").client, behind_tls.shopper(address="198.51.100.7").client
    for client, forwarded in ((proxied, "1.2.3.4, 203.0.113.9"), (proxied, "203.0.113.9, 10.0.0.1"), (proxied, ""),
                              (direct, "1.2.3.4"), (proxied, "<script>, 203.0.113.9")):  # fmt: skip
        client.get("/healthz", headers={"X-Forwarded-For": forwarded})
    assert seen == ["203.0.113.9", "203.0.113.9", "10.0.0.1", "198.51.100.7", "203.0.113.9"]


def test_a_foreign_host_is_refused(shop: Shop) -> None:
    client = shop.shopper().client
    for host in ("evil.example", "127.0.0.1.evil.example", "evil.example:8000", "127.0.0.1@evil.example"):
        for method, path in (("GET", "/"), ("GET", "/nothing"), ("POST", "/checkout")):
            answer = client.request(method, path, headers={"Host": host})
            assert answer.status_code == 400
            assert host not in answer.text
            assert policy(answer)["default-src"] == "'none'"


def test_our_own_hosts(shop: Shop) -> None:
    for host in ("127.0.0.1:8000", "localhost", "localhost:9999"):
        assert shop.shopper().client.get("/", headers={"Host": host}).status_code == 200


def test_no_redirect_leads_out(shop: Shop) -> None:
    form = ready_to_pay(shop.shopper())
    form.fields |= {"next": "https://evil.example", "return_url": "//evil.example"}
    answers = [
        form.post(params={"next": "https://evil.example"}),
        form.post(headers={"Referer": "https://evil.example"}),
    ]
    assert {answer.headers["Location"].partition("/receipts/")[0] for answer in answers} == {""}


def test_amounts_come_from_the_server_alone(shop: Shop) -> None:
    form = ready_to_pay(shop.shopper())
    form.fields |= {"amount": "1", "total": "1", "price": "1", "currency": "JPY"}
    form.submit()
    assert [(line.amount, line.currency) for line in shop.statement()] == [(2400, "EUR")]


def test_receipts_can_not_be_guessed(shop: Shop) -> None:
    links = {ready_to_pay(shop.shopper(), email=f"a{n}@example.org").submit().path for n in range(3)}
    assert len(links) == 3
    assert all(len(link.removeprefix("/receipts/")) == 36 for link in links)


def test_no_form_without_a_csrf_token_but_webhooks(shop: Shop) -> None:
    shopper = shop.shopper()
    receipt = ready_to_pay(shopper).submit()
    pages = [receipt, shopper.open(f"/products/{MUG}"), fill_basket(shopper), shopper.open("/checkout")]
    forms = [form for page in pages for form in page.root.all("form", method="post")]
    assert len(forms) >= 4
    for form in forms:
        assert form.first("input", name="csrf_token", type="hidden") is not None


def test_two_first_pages_at_once_make_no_second_buyer(shop: Shop) -> None:
    """Two tabs open before any cookie is there; only one of their cookies survives. Nothing in a basket is lost."""
    shopper = shop.shopper()
    one, other = shopper.open(f"/products/{MUG}"), shop.shopper().open(f"/products/{MUG}")
    shopper.client.cookies = other.shopper.client.cookies
    again = one.submit("Add to basket", quantity=1)
    assert again.status == 400
    again.shopper = shopper
    assert "Morning mug" in again.submit("Add to basket", quantity=1).text
    assert checkout_form(shopper).submit().heading == "Paid: €24.00"
