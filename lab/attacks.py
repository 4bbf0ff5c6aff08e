"""The attacks: things that shoppers, browsers, networks and machines do to a payment form.

Requests that must be simultaneous meet at a barrier, so that no attack depends on luck. Each attack returns the pages
that the shopper's windows show in the end.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from lab.bank import LabBank, lose_first
from lab.browser import Form, Page
from lab.clock import DAY, Clock

TWINS = 20
QUIET = 1.0
"""Seconds without a new request at the bank after which the missing requests must be waiting in the database."""

LONG_TIMEOUT, SHORT_TIMEOUT = 30.0, 1.0
"""Seconds that the shop waits for the bank. The short one is for a bank that never answers."""


class Scene(Protocol):
    """The actions that an attack can use (see race.py)."""

    bank: LabBank
    clock: Clock

    def open_form(self) -> Form: ...
    def press(self, form: Form, action: str = "presses Pay") -> Page: ...
    def reload(self, page: Page) -> Page: ...
    def press_together(self, forms: list[Form], action: str) -> list[Page]: ...
    def do_as_told(self, page: Page, form: Form) -> Page: ...
    def kill_worker(self, number: int) -> None: ...
    def note(self, text: str) -> None: ...


def reload(scene: Scene) -> list[Page]:
    page = scene.press(scene.open_form())
    return [scene.reload(page)]


def back(scene: Scene) -> list[Page]:
    form = scene.open_form()
    scene.press(form)
    return [scene.press(form.restored(), "goes Back and presses Pay again")]


def double_click(scene: Scene) -> list[Page]:
    form = scene.open_form()
    return scene.press_together([form, form], "double-clicks Pay")


def twins(scene: Scene) -> list[Page]:
    form = scene.open_form()
    copies = [form.restored() for _ in range(TWINS)]
    return scene.press_together(copies, f"the form arrives {TWINS} times at the same moment")


def second_tab(scene: Scene) -> list[Page]:
    tabs = [scene.open_form(), scene.open_form()]
    return scene.press_together(tabs, "presses Pay in both tabs")


def lost_answer(scene: Scene) -> list[Page]:
    scene.bank.fault = lose_first
    form = scene.open_form()
    return [scene.do_as_told(scene.press(form), form)]


def worker_killed(scene: Scene) -> list[Page]:
    scene.bank.fault = scene.kill_worker
    form = scene.open_form()
    return [scene.do_as_told(scene.press(form), form)]


def no_answer(scene: Scene) -> list[Page]:
    scene.bank.fault = scene.bank.never_answer
    form = scene.open_form()
    return [scene.do_as_told(scene.press(form), form)]


def day_later(scene: Scene) -> list[Page]:
    form = scene.open_form()
    scene.press(form)
    scene.clock.advance(DAY + 60)
    scene.note("a day passes; the tab with the form is still open")
    return [scene.press(form.restored(), "presses Pay in it")]


@dataclass(frozen=True)
class Attack:
    """A column of the matrix. `timeout` is the number of seconds that the shop waits for the bank."""

    number: int
    name: str
    description: str
    run: Callable[[Scene], list[Page]]
    timeout: float = LONG_TIMEOUT


ATTACKS = (
    Attack(1, "Reload", "The shopper reloads the page that they see after paying.", reload),
    Attack(2, "Back, pay again", "The shopper goes Back to the form and presses Pay again.", back),
    Attack(3, "Double-click", "The shopper clicks twice; both requests are on their way at the same time.",
           double_click),
    Attack(4, "20 twins", "One form arrives 20 times at the same moment, as unreliable networks and proxies can cause.",
           twins),
    Attack(5, "Second tab", "The same order is open in two tabs, and the shopper presses Pay in both.", second_tab),
    Attack(6, "Lost answer", "The bank takes the money, but its answer is lost. The shopper does what the page says.",
           lost_answer),
    Attack(7, "Worker killed", "The shop's process is killed after the bank took the money. The shopper reloads.",
           worker_killed),
    Attack(8, "Bank never answers", "The bank takes the money but never answers. The shopper does what the page says.",
           no_answer, SHORT_TIMEOUT),
    Attack(9, "A day later", "The same form is sent again after 24 hours.", day_later),
)  # fmt: skip
