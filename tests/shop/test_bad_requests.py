"""Bad requests: an unknown address, a wrong method, a body that is no form or is too large."""

from typing import Any

from tests.factories import MUG, ready_to_pay
from tests.shops import Shop


def test_an_unknown_receipt_is_a_404(shop: Shop) -> None:
    shopper = shop.shopper()
    for path in ("/receipts/00000000-0000-0000-0000-000000000000", "/receipts/1", "/receipts/x", "/receipts/%00"):
        assert shopper.open(path).status == 404
    assert shopper.client.get("/receipts/00000000-0000-0000-0000-000000000000.json").status_code == 404


def test_an_unknown_page_is_a_404(shop: Shop) -> None:
    shopper = shop.shopper()
    long = "/products/" + "x" * 3000
    for path in ("/nothing", "/products/nothing", "/products/%00", long, "/basket/1", "/static/no.css"):
        page = shopper.open(path)
        assert (page.status, page.heading) == (404, "This page does not exist"), path


def test_a_wrong_method_is_a_405(shop: Shop) -> None:
    shopper = shop.shopper()
    wrong = ("PUT /checkout", "DELETE /basket", "POST /", "POST /receipts", "PATCH /healthz", "POST /products/x")
    for method_and_path in wrong:
        page = shopper.follow_redirects(shopper.client.request(*method_and_path.split()))
        assert (page.status, page.heading) == (405, "This page can't be used that way")
        assert "GET" in page.response.headers["Allow"]


def test_a_body_that_is_not_a_form_is_a_415(shop: Shop) -> None:
    shopper = shop.shopper()
    for content_type in ("application/json", "text/plain", "application/xml", "multipart/mixed", "x"):
        for path in ("/checkout", "/basket"):
            body = {"content": b"checkout_token=x", "headers": {"Content-Type": content_type}}
            page = shopper.follow_redirects(shopper.client.post(path, **body))  # type: ignore[arg-type]
            assert (page.status, page.heading) == (415, "That was not a form")
            assert "This try took no money." in page.text


def test_a_multipart_form_is_accepted(shop: Shop) -> None:
    form = ready_to_pay(shop.shopper())
    parts = {name: (None, value) for name, value in form.fields.items()}
    response = form.page.shopper.client.post("/checkout", files=parts)
    assert response.status_code == 303
    assert len(shop.statement()) == 1


def test_a_file_in_place_of_a_field_is_a_missing_field(shop: Shop) -> None:
    form = ready_to_pay(shop.shopper())
    client = form.page.shopper.client
    for name in form.fields:
        parts: dict[str, Any] = {each: (None, value) for each, value in form.fields.items()}
        response = client.post("/checkout", files=parts | {name: ("a.txt", form.fields[name])})
        assert response.status_code in (400, 422), name
    changed = {"csrf_token": (None, form.fields["csrf_token"]), "product": ("a.txt", MUG), "quantity": (None, "0")}
    assert client.post("/basket", files=changed).status_code in (400, 404, 422)
    assert shop.charges() == {}
    assert form.submit().heading == "Paid: €24.00"


def test_a_form_with_too_many_fields_is_a_413(shop: Shop) -> None:
    client = shop.shopper().client
    for path in ("/checkout", "/basket"):
        assert client.post(path, data={f"f{n}": "" for n in range(201)}).status_code == 413
        assert client.post(path, files={f"f{n}": (None, "") for n in range(201)}).status_code == 413
        assert client.post(path, data={f"f{n}": "" for n in range(200)}).status_code in (400, 404, 422)


def test_a_body_that_is_too_large_is_a_413(shop: Shop) -> None:
    shopper = shop.shopper()
    for path in ("/checkout", "/basket"):
        page = shopper.follow_redirects(shopper.post(path, {"name": "x" * 70_000}))
        assert (page.status, page.heading) == (413, "That was too much to read")


def test_unknown_fields_are_ignored(shop: Shop) -> None:
    form = ready_to_pay(shop.shopper())
    form.fields |= {"odd": "x", "amount": "1", "total": "1", "status": "succeeded", "order": "2"}
    assert form.submit().heading == "Paid: €24.00"
