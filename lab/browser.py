"""The lab's browser: real requests, and what browsers do with answers. It runs no script, but obeys `data-once`."""

from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from itertools import count
from urllib.parse import urljoin, urlsplit

import httpx

from lab.trace import SHOPPER, Trace

NUMBER = "X-Lab-Request"
UNSENT = {"checkbox", "radio", "submit", "button"}
PATIENCE = 40.0
"""Seconds that the browser waits for an answer."""


@dataclass
class Form:
    """A form as it stands on a page. `once`: the page's script lets its button be pressed once."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)
    once: bool = False
    pressed: bool = False

    def restored(self) -> "Form":
        """The same form after Back: same fields, same token, and the button is free again."""
        return replace(self, pressed=False)


@dataclass(frozen=True)
class Page:
    """What a window shows. `sent` is the form that made it, None after a GET; status 0: no answer came."""

    url: str
    status: int = 0
    text: str = ""
    sent: Form | None = None
    redirects: tuple[str, ...] = ()


class Browser:
    """One shopper's browser: cookies, redirects, reload. Its requests may run in several threads."""

    def __init__(self, origin: str, trace: Trace) -> None:
        self._http = httpx.Client(base_url=origin, timeout=PATIENCE, trust_env=False)
        self._numbers = count(1)
        self._trace = trace

    def get(self, url: str) -> Page:
        """A page, by the redirects that lead to it."""
        return self._follow(self._http.build_request("GET", url), None, "")

    def press(self, form: Form) -> Page | None:
        """The button; None where the page's script does not let it through a second time."""
        if form.once and form.pressed:
            self._trace.say(SHOPPER, "clicks again: the button is disabled, nothing is sent")
            return None
        form.pressed = True
        return self.send(form)

    def send(self, form: Form, *, watched: bool = True) -> Page:
        """The form's POST, whoever sends it: a button, a browser that repeats it, a proxy."""
        number = str(next(self._numbers)) if watched else ""
        headers = {NUMBER: number} if watched else {}
        request = self._http.build_request("POST", form.action, data=form.fields, headers=headers)
        return self._follow(request, form, number)

    def reload(self, page: Page) -> Page:
        """What made the page is asked for again: a POST if it was one."""
        return self.send(page.sent) if page.sent else self.get(page.url)

    def _follow(self, request: httpx.Request, form: Form | None, number: str) -> Page:
        """A 303 after a POST leads to a GET: from there on the window shows a page that was only got."""
        redirects: tuple[str, ...] = ()
        try:
            response = self._http.send(request)
            while response.is_redirect and len(redirects) < 10:
                redirects += (urljoin(str(response.url), response.headers["Location"]),)
                headers = {NUMBER: number} if number else {}
                response = self._http.send(self._http.build_request("GET", redirects[-1], headers=headers))
        except httpx.TransportError:
            return Page(str(request.url), sent=form)
        sent = None if redirects else form
        return Page(str(response.url), response.status_code, response.text, sent, redirects)


def forms(page: Page) -> list[Form]:
    """The forms of a page that post, with what stands in their fields."""
    reader = _FormReader(page.url)
    reader.feed(page.text)
    return reader.found


class _FormReader(HTMLParser):
    def __init__(self, url: str) -> None:
        super().__init__()
        self.found: list[Form] = []
        self._url = url
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "form":
            self._inside = (given.get("method") or "").lower() == "post"
            if self._inside:
                self.found.append(Form(urljoin(self._url, given.get("action") or ""), once="data-once" in given))
        elif tag == "input" and self._inside and given.get("name") and given.get("type") not in UNSENT:
            self.found[-1].fields[str(given["name"])] = given.get("value") or ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "form"


def path_of(url: str) -> str:
    """Without the origin."""
    return urlsplit(url).path
