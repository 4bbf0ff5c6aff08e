"""A client that reads pages as a person does: follows links by their words, fills forms by label or name.

It speaks to the application in this process or to a real server alike (httpx below), keeps cookies as a browser
does, follows redirects by GET, and lints every page that it gets. What it was answered on the way is in `trail`.
"""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin

import httpx

from tests.dom import Element, parse
from tests.lint import lint

MOST_REDIRECTS = 5


class Shopper:
    """One browser with its cookies. `client` decides where it goes: httpx over WSGI, or over TCP."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def open(self, url: str, **kwargs: Any) -> "Page":
        """Type an address in; redirects are followed."""
        return self._arrive(self.client.get(url, **kwargs))

    def post(self, url: str, data: Any = None, **kwargs: Any) -> httpx.Response:
        """Send a form as it stands; the answer itself, no redirect followed."""
        return self.client.post(url, data=data, **kwargs)

    def _arrive(self, answer: httpx.Response) -> "Page":
        trail = [answer]
        while answer.is_redirect:
            assert len(trail) <= MOST_REDIRECTS, [step.headers.get("Location") for step in trail]
            answer = self.client.get(answer.headers["Location"])
            trail.append(answer)
        return Page(self, answer, trail)


class Page:
    """What arrived: a page that a person can read. Made only of HTML that passes `lint`."""

    def __init__(self, shopper: Shopper, answer: httpx.Response, trail: list[httpx.Response]) -> None:
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8", answer.headers["Content-Type"]
        self.shopper, self.answer, self.trail = shopper, answer, trail
        self.status, self.url, self.path = answer.status_code, str(answer.url), answer.url.path
        self.root = parse(answer.text)
        lint(self.root)

    @property
    def statuses(self) -> list[int]:
        """The statuses of every answer on the way here: [303, 200] after a form that was accepted."""
        return [answer.status_code for answer in self.trail]

    @property
    def text(self) -> str:
        """All that a person reads on it, head and foot of the shop left out."""
        return self._one("main").text

    @property
    def title(self) -> str:
        return self._one("title").text

    @property
    def heading(self) -> str:
        return self._one("h1").text

    @property
    def problems(self) -> list[str]:
        """The lines of the error summary ("There is a problem"), empty where there is none."""
        for note in self.root.all(role="alert"):
            heading = note.first("h2")
            if heading is not None and heading.text == "There is a problem":
                return [item.text for item in note.all("li")]
        return []

    @property
    def links(self) -> dict[str, str]:
        """Words → address, of the links a person can follow."""
        return {link.text: link.attrs["href"] for link in self.root.all("a") if "href" in link.attrs}

    def follow(self, words: str) -> "Page":
        """Click the link with these words (or whose words begin with them)."""
        return self.shopper.open(urljoin(self.url, _pick(self.links, words)))

    def form(self, button: str) -> "Form":
        """The form whose button has these words, or begins with them."""
        forms = {}
        for form in self.root.all("form"):
            for push in form.all("button"):
                forms.setdefault(push.text, form)
        return Form(self, _pick(forms, button))

    def submit(self, button: str, **fields: str | int | bool | None) -> "Page":
        """Fill the fields (by name, or by label with spaces as underscores), press the button, go where it leads."""
        return self.form(button).fill(**fields).submit()

    def reload(self) -> "Page":
        """F5: the same address again, by GET."""
        return self.shopper.open(self.url)

    def _one(self, tag: str) -> Element:
        found = self.root.first(tag)
        assert found is not None
        return found


@dataclass
class Form:
    """A form as it stands on its page. `fields` is what would be sent; it may be changed and sent again and again."""

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
        """Label → name, for the fields that a person sees."""
        named = [each.attrs for each in self.element.all("input") if "name" in each.attrs]
        ids = {attrs.get("id", ""): attrs["name"] for attrs in named}
        return {label.text: ids[label.attrs["for"]] for label in self.element.all("label") if label.attrs["for"] in ids}

    def error(self, name: str) -> str | None:
        """What stands beside a field as its error."""
        control = self.element.first("input", name=name)
        assert control is not None, name
        for target in control.attrs.get("aria-describedby", "").split():
            told = self.element.first(id=target)
            if target.endswith("-error") and told is not None:
                return told.text.removeprefix("Error: ")
        return None

    def fill(self, **fields: str | int | bool | None) -> "Form":
        """Set fields by name or label. True ticks, None leaves the field out, as a broken client would."""
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
        """Press the button; the bare answer, nothing followed."""
        return self.page.shopper.post(self.action, self.fields, **kwargs)

    def submit(self) -> Page:
        """Press the button and go where it leads."""
        return self.page.shopper._arrive(self.post())

    def _name(self, key: str) -> str:
        named = {each.attrs.get("name") for each in self.element.all("input")}
        if key in named:
            return key
        words = key.replace("_", " ").lower()
        for label, name in self.names.items():
            if label.lower() == words:
                return name
        raise AssertionError(f"no field {key!r} among {sorted(filter(None, named))}")


def _pick(choices: dict[str, Any], words: str) -> Any:
    """By the exact words, else by the only one that begins with them (the first, where several do)."""
    if words in choices:
        return choices[words]
    for choice, value in choices.items():
        if choice.startswith(words):
            return value
    raise AssertionError(f"nothing says {words!r}: {sorted(choices)}")
