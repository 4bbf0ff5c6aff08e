"""A client that reads pages as a person does: it follows links by their text and fills in forms by label or name.

It uses httpx, so that it can talk to the application in this process and to a real server. It keeps cookies and
follows redirects by GET, as a browser does, and checks every page with `lint`.
"""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin

import httpx

from tests.dom import Element, parse
from tests.lint import lint

MOST_REDIRECTS = 5


class Shopper:
    """One browser with its cookies. `client` sends the requests, by WSGI or by TCP."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def open(self, url: str, **kwargs: Any) -> "Page":
        """Open an address as if it was typed in. Return the page after all redirects."""
        return self.follow_redirects(self.client.get(url, **kwargs))

    def post(self, url: str, data: Any = None, **kwargs: Any) -> httpx.Response:
        """Post these fields. Return the response itself; redirects are not followed."""
        return self.client.post(url, data=data, **kwargs)

    def follow_redirects(self, response: httpx.Response) -> "Page":
        """Return the page that this response leads to. Fails after MOST_REDIRECTS redirects."""
        responses = [response]
        while response.is_redirect:
            assert len(responses) <= MOST_REDIRECTS, [each.headers.get("Location") for each in responses]
            response = self.client.get(response.headers["Location"])
            responses.append(response)
        return Page(self, responses)


class Page:
    """An HTML page that passes `lint`. `responses` are all responses up to this page, which is the last one."""

    def __init__(self, shopper: Shopper, responses: list[httpx.Response]) -> None:
        response = responses[-1]
        assert response.headers["Content-Type"] == "text/html; charset=utf-8", response.headers["Content-Type"]
        self.shopper, self.response, self.responses = shopper, response, responses
        self.status, self.url, self.path = response.status_code, str(response.url), response.url.path
        self.root = parse(response.text)
        lint(self.root)

    @property
    def statuses(self) -> list[int]:
        """Return the status of every response up to this page: [303, 200] after a form that was accepted."""
        return [response.status_code for response in self.responses]

    @property
    def text(self) -> str:
        """Return all text of the page except the shop's header and footer."""
        return self._one("main").text

    @property
    def title(self) -> str:
        return self._one("title").text

    @property
    def heading(self) -> str:
        return self._one("h1").text

    @property
    def problems(self) -> list[str]:
        """Return the lines of the error summary ("There is a problem"), or an empty list if there is none."""
        for note in self.root.all(role="alert"):
            heading = note.first("h2")
            if heading is not None and heading.text == "There is a problem":
                return [item.text for item in note.all("li")]
        return []

    @property
    def links(self) -> dict[str, str]:
        """Return the address of every link, by the link's text."""
        return {link.text: link.attrs["href"] for link in self.root.all("a") if "href" in link.attrs}

    def follow(self, text: str) -> "Page":
        """Click the link with this text, or whose text begins with it."""
        return self.shopper.open(urljoin(self.url, _pick(self.links, text)))

    def form(self, button: str) -> "Form":
        """Return the form that has a button with this text, or whose text begins with it."""
        forms = {}
        for form in self.root.all("form"):
            for element in form.all("button"):
                forms.setdefault(element.text, form)
        return Form(self, _pick(forms, button))

    def submit(self, button: str, **fields: str | int | bool | None) -> "Page":
        """Fill in the fields (by name, or by label with spaces as underscores) and press the button.

        Return the page after all redirects.
        """
        return self.form(button).fill(**fields).submit()

    def reload(self) -> "Page":
        """Open the same address again by GET, as F5 does."""
        return self.shopper.open(self.url)

    def _one(self, tag: str) -> Element:
        found = self.root.first(tag)
        assert found is not None
        return found


@dataclass
class Form:
    """A form on a page. `fields` is what will be posted. It may be changed, and the form may be posted repeatedly."""

    page: Page
    element: Element
    fields: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.fields = {
            each.attrs["name"]: each.attrs.get("value", "on" if each.attrs.get("type") == "checkbox" else "")
            for each in self.element.all("input")
            if "name" in each.attrs and (each.attrs.get("type") != "checkbox" or "checked" in each.attrs)
        }

    @property
    def action(self) -> str:
        return urljoin(self.page.url, self.element.attrs.get("action", ""))

    @property
    def names(self) -> dict[str, str]:
        """Return the name of every labelled field, by its label."""
        named = [each.attrs for each in self.element.all("input") if "name" in each.attrs]
        ids = {attrs.get("id", ""): attrs["name"] for attrs in named}
        return {label.text: ids[label.attrs["for"]] for label in self.element.all("label") if label.attrs["for"] in ids}

    def error(self, name: str) -> str | None:
        """Return the error message of a field, or None."""
        control = self.element.first("input", name=name)
        assert control is not None, name
        for target in control.attrs.get("aria-describedby", "").split():
            message = self.element.first(id=target)
            if target.endswith("-error") and message is not None:
                return message.text.removeprefix("Error: ")
        return None

    def fill(self, **fields: str | int | bool | None) -> "Form":
        """Set fields by name or label. True ticks a box. None and False leave the field out of the request."""
        for key, value in fields.items():
            name = self._name(key)
            if value is None or value is False:
                self.fields.pop(name, None)
            else:
                control = self.element.first("input", name=name)
                ticked = control.attrs.get("value", "on") if control is not None else "on"
                self.fields[name] = ticked if value is True else str(value)
        return self

    def post(self, **kwargs: Any) -> httpx.Response:
        """Press the button. Return the response itself; redirects are not followed."""
        return self.page.shopper.post(self.action, self.fields, **kwargs)

    def submit(self) -> Page:
        """Press the button. Return the page after all redirects."""
        return self.page.shopper.follow_redirects(self.post())

    def _name(self, key: str) -> str:
        named = {each.attrs.get("name") for each in self.element.all("input")}
        if key in named:
            return key
        wanted = key.replace("_", " ").lower()
        for label, name in self.names.items():
            if label.lower() == wanted:
                return name
        raise AssertionError(f"no field {key!r} among {sorted(filter(None, named))}")


def _pick(choices: dict[str, Any], text: str) -> Any:
    """Return the choice with exactly this text, else the first one whose text begins with it."""
    if text in choices:
        return choices[text]
    for choice, value in choices.items():
        if choice.startswith(text):
            return value
    raise AssertionError(f"none of {sorted(choices)} is or begins with {text!r}")
