"""The Lab's browser: real HTTP requests, with a browser's rules for redirects, reload and Back.

It runs no script. The one effect of a script that matters, `data-once`, is imitated.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from itertools import count
from urllib.parse import urljoin, urlsplit

import httpx

from lab.trace import SHOPPER, Trace

REQUEST_HEADER = "X-Lab-Request"
"""Carries the number of the request, so that the trace can name the worker that handles it."""
UNSENT = {"checkbox", "radio", "submit", "button"}
"""Types of inputs that this browser does not send."""
TIMEOUT = 40.0
"""Seconds that the browser waits for a response."""


@dataclass
class Form:
    """A form on a page. `once`: the page's script disables the button after the first click."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)
    once: bool = False
    pressed: bool = False

    def restored(self) -> "Form":
        """Return the form after Back: the same fields and token, and an enabled button."""
        return replace(self, pressed=False)


@dataclass(frozen=True)
class Page:
    """A page in a window. `posted` is the form that led directly to it, None after a GET. Status 0: no response."""

    url: str
    status: int = 0
    text: str = ""
    posted: Form | None = None
    redirects: tuple[str, ...] = ()


class Browser:
    """One shopper's browser, with its cookies. Thread-safe, because several windows can send at the same time."""

    def __init__(self, origin: str, trace: Trace) -> None:
        self._http = httpx.Client(base_url=origin, timeout=TIMEOUT, trust_env=False)
        self._numbers = count(1)
        self._trace = trace

    def get(self, url: str) -> Page:
        """Open a URL and follow its redirects."""
        return self._follow(self._http.build_request("GET", url), None, "")

    def press(self, form: Form) -> Page | None:
        """Press the form's button. Return None if the page's script stops a second click."""
        if form.once and form.pressed:
            self._trace.add(SHOPPER, "clicks again: the button is disabled, nothing is sent")
            return None
        form.pressed = True
        return self.send(form)

    def send(self, form: Form, *, traced: bool = True) -> Page:
        """Send the form's POST, as a button, a reload or a proxy that repeats requests does."""
        number = str(next(self._numbers)) if traced else ""
        headers = {REQUEST_HEADER: number} if traced else {}
        request = self._http.build_request("POST", form.action, data=form.fields, headers=headers)
        return self._follow(request, form, number)

    def reload(self, page: Page) -> Page:
        """Repeat the request that led to the page: the POST if it was one."""
        return self.send(page.posted) if page.posted else self.get(page.url)

    def _follow(self, request: httpx.Request, form: Form | None, number: str) -> Page:
        """Send the request and follow redirects by GET. After a redirect, a reload no longer repeats the POST."""
        redirects: tuple[str, ...] = ()
        try:
            response = self._http.send(request)
            while response.is_redirect and len(redirects) < 10:
                redirects += (urljoin(str(response.url), response.headers["Location"]),)
                headers = {REQUEST_HEADER: number} if number else {}
                response = self._http.send(self._http.build_request("GET", redirects[-1], headers=headers))
        except httpx.TransportError:
            return Page(str(request.url), posted=form)
        posted = None if redirects else form
        return Page(str(response.url), response.status_code, response.text, posted, redirects)


def send_together(send: Callable[[Form], Page | None], forms: list[Form]) -> list[Page]:
    """Call `send` for all forms at the same moment. Return the pages of those that were sent."""
    start, pages = threading.Barrier(len(forms)), list[Page]()

    def send_one(form: Form) -> None:
        start.wait()
        if page := send(form):
            pages.append(page)

    threads = [threading.Thread(target=send_one, args=(form,)) for form in forms]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return pages


def forms(page: Page) -> list[Form]:
    """Return the page's POST forms, with the values of their fields."""
    parser = _FormParser(page.url)
    parser.feed(page.text)
    return parser.found


class _FormParser(HTMLParser):
    def __init__(self, url: str) -> None:
        super().__init__()
        self.found: list[Form] = []
        self._url = url
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "form":
            self._inside = (values.get("method") or "").lower() == "post"
            if self._inside:
                self.found.append(Form(urljoin(self._url, values.get("action") or ""), once="data-once" in values))
        elif tag == "input" and self._inside and values.get("name") and values.get("type") not in UNSENT:
            self.found[-1].fields[str(values["name"])] = values.get("value") or ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "form"


def path_of(url: str) -> str:
    """Return the path of a URL."""
    return urlsplit(url).path
