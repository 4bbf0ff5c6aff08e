"""Bad input: the form is shown again, filled in except for the card. Nothing is claimed, and the token stays valid."""

import pytest

from app.shop import texts
from tests.factories import MUG, change_product, fields, fill_basket, product, ready_to_pay
from tests.page import Form, Page
from tests.shops import Shop

REAL_CARD = "4012 8888 8888 1881"

INVALID = [
    ("email", [None, "", " ", "ada", "ada@", "@example.org", "ada@example", "a b@example.org", "a@b@example.org",
               "x" * 250 + "@example.org", "ada@example.org\nBcc: x@example.org",
               "=?utf-8?q?ada?=@example.org", "ada@=?utf-8?q?example?=.org", "ada\r@example.org", "ad\x00a@example.org",
               "ada\x07@example.org", "ada\x7f@example.org", "ad\u202ea@example.org", "ad\u200ba@example.org"],
     texts.EMAIL),
    ("name", [None, "", "   ", "\x00", "Ada\r\nBcc: x@example.org", "Ad\x00a", "Ada\x1b[31m", "Ada \u202enalyL",
              "Ada\x85Lane", "Ada\u2028Lane"], texts.NAME),
    ("name", ["http://example.org", "Win on example.org", "WWW.EXAMPLE.ORG now", "例え.jp", "a@example.org",
              "see HTTPS://1.2.3.4", "example。com", "t.co/abc", "Evil.COM"], texts.NAME_ADDRESS),
    ("name", ["x" * 101], texts.NAME_LENGTH),
    ("card_number", [None, "", "abc", "4242", "4242 4242 4242 4241", "4" * 16, "42" * 11, "\x00", "４２４２"],
     texts.CARD_NUMBER),
    ("card_number", [REAL_CARD, "5555 5555 5555 4444", "3782 822463 10005"], texts.CARD_TEST),
    ("card_expiry", [None, "", "13/49", "00/49", "12", "1249x", "12/2x", "12/1949", "--/--", "12/49/01"],
     texts.CARD_EXPIRY),
    ("card_expiry", ["01/20", "12/24", "1/25"], texts.CARD_EXPIRED),
    ("card_cvc", [None, "", "12", "12345", "abc", "１２３", "-12"], texts.CARD_CVC),
]  # fmt: skip


def assert_shown_again(page: Page, form: Form, status: int = 422) -> Form:
    """Check that the page shows the form again with the same token and without the card. Return its form."""
    assert (page.status, page.path) == (status, "/checkout")
    again = page.form("Pay")
    assert again.fields["checkout_token"] == form.fields["checkout_token"]
    assert [again.fields[name] for name in ("card_number", "card_expiry", "card_cvc")] == ["", "", ""]
    return again


@pytest.mark.parametrize(("field", "values", "text"), INVALID)
def test_an_invalid_field_is_named_and_the_form_stays_valid(
    shop: Shop, field: str, values: list[str | None], text: str
) -> None:
    shopper = shop.shopper()
    form = ready_to_pay(shopper)
    for value in values:
        form.fields |= fields()
        form.fill(**{field: value})
        page = form.submit()
        again = assert_shown_again(page, form)
        assert page.problems == [text], value
        assert again.error(field) == text
        assert page.title.startswith("Error: ")
        assert page.links[text] == f"#{field}", "the error summary links to the field"
        if field != "email":
            assert again.fields["email"] == "ada@example.org"
    assert shop.charges() == {}
    form.fields |= fields()
    assert form.submit().heading == "Paid: €24.00", "the same form is still valid"


@pytest.mark.parametrize("name", ["J.Smith", "Dr.Müller", "St.John", "J. R. R. Tolkien", "J.R.R. Tolkien",
                                  "Ravi s/o Kumar", "O’Brien, Anne-Marie",
                                  "佐藤 花子", "مری\u200cم", "Dr. h. c. Åsa Grün"])  # fmt: skip
def test_names_of_people_are_accepted(shop: Shop, name: str) -> None:
    assert name in ready_to_pay(shop.shopper(), name=name).submit().text


def test_all_invalid_fields_are_named_at_once(shop: Shop) -> None:
    form = ready_to_pay(shop.shopper(), email="", name="", card_number="", card_expiry="", card_cvc="")
    page = form.submit()
    assert_shown_again(page, form)
    assert page.problems == [texts.EMAIL, texts.NAME, texts.CARD_NUMBER, texts.CARD_EXPIRY, texts.CARD_CVC]


def test_input_is_shown_as_text_and_never_executed(shop: Shop) -> None:
    name = '"><script>alert(1)</script>{{ 7*7 }}'
    form = ready_to_pay(shop.shopper(), name=name, email="nobody")
    page = form.submit()
    assert assert_shown_again(page, form).fields["name"] == name
    assert "<script>alert" not in page.response.text
    receipt = form.fill(**fields(name=name)).submit()
    assert name in receipt.text


def test_a_real_card_is_neither_stored_nor_logged_nor_sent(shop: Shop, capfd: pytest.CaptureFixture[str]) -> None:
    form = ready_to_pay(shop.shopper(), card_number=REAL_CARD)
    page = form.submit()
    assert_shown_again(page, form)
    digits = REAL_CARD.replace(" ", "")
    for text in (page.response.text, *capfd.readouterr()):
        assert REAL_CARD not in text and digits not in text
    assert shop.charges() == {}
    assert shop.statement() == []
    stored = [str(row) for table in ("orders", "charge", "same_order") for row in shop.rows(f"SELECT * FROM {table}")]
    assert not [row for row in stored if digits in row or digits[-4:] in row]


def test_only_the_last_four_digits_of_a_card_are_stored(shop: Shop, capfd: pytest.CaptureFixture[str]) -> None:
    ready_to_pay(shop.shopper()).submit()
    [charge] = shop.rows("SELECT * FROM charge")
    assert charge.last4 == "4242"
    assert "42424242" not in str(charge)
    assert "42424242" not in "".join(capfd.readouterr())


ACCEPTED = [("4242424242424242", "1249"), ("4242-4242-4242-4242", "12 / 2049"), (" 4242 42424242 4242 ", "12-49"),
        ("4242\u00a04242\u00a04242\u00a04242", "122049")]  # fmt: skip


def test_common_spellings_of_card_and_expiry_date_are_accepted(shop: Shop) -> None:
    for n, (number, expiry) in enumerate(ACCEPTED):
        form = ready_to_pay(shop.shopper(), email=f"a{n}@example.org", card_number=number, card_expiry=expiry)
        assert form.submit().heading == "Paid: €24.00", (number, expiry)


def test_a_text_that_is_not_a_token_is_refused(shop: Shop) -> None:
    form = ready_to_pay(shop.shopper())
    valid = form.fields["checkout_token"]
    for token in (None, "", "x", "a.b", "é" * 10, "\x00", "x" * 2000, "x" * 50_000):
        page = form.fill(checkout_token=token).submit()
        assert page.status == 400
        assert "This try took no money." in page.text
        assert page.follow("Your basket").path == "/basket"
    assert shop.charges() == {}
    assert form.fill(checkout_token=valid).submit().heading == "Paid: €24.00"


def test_a_changed_token_is_refused(shop: Shop) -> None:
    form = ready_to_pay(shop.shopper())
    valid = form.fields["checkout_token"]
    shortened = (valid[:-1], valid[1:], valid[: len(valid) // 2])
    for token in (*shortened, valid + valid, valid + "\x00", "\x00" + valid, valid + " ", valid.swapcase()):
        page = form.fill(checkout_token=token).submit()
        assert page.status == 400
        assert "This try took no money." in page.text
    assert shop.charges() == {}


def test_a_token_of_one_megabyte_is_a_413(shop: Shop) -> None:
    page = ready_to_pay(shop.shopper()).fill(checkout_token="x" * 1_000_000).submit()
    assert page.status == 413
    assert "This try took no money." in page.text
    assert "Your basket" in page.links


def test_another_browsers_token_is_refused(shop: Shop) -> None:
    mine, theirs = ready_to_pay(shop.shopper()), ready_to_pay(shop.shopper(), email="grace@example.org")
    page = theirs.fill(checkout_token=mine.fields["checkout_token"]).submit()
    assert page.status == 403
    assert "This try took no money." in page.text
    assert page.follow("Your basket").text.count("Morning mug"), "their own basket is unchanged"
    assert shop.charges() == {}
    assert mine.submit().heading == "Paid: €24.00"


def test_a_browser_that_lost_its_cookies_is_refused(shop: Shop) -> None:
    form = ready_to_pay(shop.shopper())
    response = shop.shopper().post("/checkout", form.fields)
    assert response.status_code == 403
    assert "This try took no money." in response.text


def test_an_empty_basket_has_no_checkout(shop: Shop) -> None:
    shopper = shop.shopper()
    for page in (shopper.open("/checkout"), fill_basket(shopper).submit("Remove"), shopper.open("/checkout")):
        assert page.path == "/basket"
        assert "There is nothing in it yet." in page.text


def test_a_form_of_an_emptied_basket_is_a_409(shop: Shop) -> None:
    shopper = shop.shopper()
    form = ready_to_pay(shopper)
    shopper.open("/basket").submit("Remove")
    page = form.submit()
    assert page.status == 409
    assert "Nothing was charged." in page.text
    assert shop.charges() == {}


def test_a_changed_price_is_shown_before_it_is_charged(shop: Shop) -> None:
    form = ready_to_pay(shop.shopper(), quantity=2)
    with shop.app.app_context():
        change_product(MUG, price=2500)
    page = form.submit()
    assert page.status == 409
    assert "The total was €48.00 when this page was shown and is €50.00 now. Nothing was charged." in page.text
    assert "Morning mug costs €25.00 now, not €24.00." in page.text
    assert page.form("Pay €50.00").fields["email"] == "ada@example.org"
    assert shop.charges() == {}
    assert page.submit("Pay €50.00", **fields()).heading == "Paid: €50.00"


@pytest.mark.parametrize(("change", "text"), [
    ({"stock": 1}, "only 1 are left"), ({"stock": 0}, "is sold out"), ({"on_sale": False}, "is not sold any more"),
])  # fmt: skip
def test_goods_that_are_gone_are_named_and_not_charged(shop: Shop, change: dict[str, object], text: str) -> None:
    with shop.app.app_context():
        slug = product(name="Odd cup", stock=5)
    shopper = shop.shopper()
    form = ready_to_pay(shopper, slug, 2)
    with shop.app.app_context():
        change_product(slug, **change)
    page = form.submit()
    assert page.status == 409
    assert text in page.text
    assert page.heading == "Your basket"
    assert shop.charges() == {}
    assert "There is nothing in it yet." in page.submit("Remove").text


def test_an_invalid_quantity_changes_nothing(shop: Shop) -> None:
    shopper = shop.shopper()
    add = shopper.open(f"/products/{MUG}").form("Add to basket")
    change = fill_basket(shopper, quantity=2).form("Update Morning mug")
    for quantity in ("-1", "100", "1e3", "9" * 20, "9" * 5000, "1.5", "many", "", " ", "0x10", "\x00", None):
        for form in (add, change):
            page = form.fill(quantity=quantity).submit()
            assert (page.status, page.problems) == (422, [texts.BASKET_NUMBER]), quantity
    assert shopper.open("/basket").form("Update Morning mug").fields["quantity"] == "2"


def test_quantity_0_removes_the_product(shop: Shop) -> None:
    page = fill_basket(shop.shopper()).form("Update Morning mug").fill(quantity=0).submit()
    assert page.statuses == [303, 200]
    assert "There is nothing in it yet." in page.text


def test_a_quantity_above_the_stock_is_refused(shop: Shop) -> None:
    with shop.app.app_context():
        slug = product(name="Odd cup", stock=3)
    page = shop.shopper().open(f"/products/{slug}").submit("Add to basket", quantity=4)
    assert (page.status, page.problems) == (422, ["There are only 3 left; choose 3 or fewer"])


def test_an_unknown_product_is_refused(shop: Shop) -> None:
    shopper = shop.shopper()
    form = shopper.open(f"/products/{MUG}").form("Add to basket")
    for slug in ("no-such-thing", "", None, "\x00", "x" * 500, "é", "../../etc/passwd", "' OR 1=1 --"):
        assert form.fill(product=slug, quantity=1).submit().status in (404, 422), slug
    assert "There is nothing in it yet." in shopper.open("/basket").text


def test_a_wrong_csrf_token_shows_the_form_again_and_it_can_be_paid(shop: Shop) -> None:
    for n, value in enumerate((None, "", "forged", "x" * 5000)):
        form = ready_to_pay(shop.shopper(), email=f"a{n}@example.org")
        page = form.fill(csrf_token=value).submit()
        again = assert_shown_again(page, form, 400)
        assert texts.STALE_FORM in page.text
        assert again.fields["email"] == form.fields["email"]
        assert again.fill(**fields(email=form.fields["email"])).submit().heading == "Paid: €24.00"


def test_another_browsers_csrf_token_is_refused(shop: Shop) -> None:
    form, theirs = ready_to_pay(shop.shopper()), ready_to_pay(shop.shopper())
    page = form.fill(csrf_token=theirs.fields["csrf_token"]).submit()
    assert_shown_again(page, form, 400)
    assert shop.charges() == {}


def test_the_basket_needs_a_csrf_token(shop: Shop) -> None:
    shopper = shop.shopper()
    page = shopper.open(f"/products/{MUG}").form("Add to basket").fill(csrf_token=None).submit()
    assert page.status == 400
    assert page.submit("Add to basket").path == "/basket"


def test_an_empty_form_is_refused(shop: Shop) -> None:
    shopper = shop.shopper()
    token = ready_to_pay(shopper).fields["checkout_token"]
    assert shopper.post("/checkout", {}).status_code == 400
    assert shopper.post("/checkout", {"checkout_token": token}).status_code == 400
    assert shop.charges() == {}
