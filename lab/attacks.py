"""The nine attacks: what shoppers, browsers, networks and machines do to a payment form, each by barriers, not luck.

Each gets a scene, and answers the pages that the shopper's windows show at the end.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from lab.bank import LabBank, lose_first
from lab.browser import Form, Page
from lab.clock import DAY, Clock

TWINS = 20
QUIET = 1.0
"""Seconds without an arrival at the bank after which rivals are taken to wait for each other in the database."""

PATIENT, HASTY = 30.0, 1.0
"""Seconds that a shop waits for the bank; few where the bank never answers, so that the lab need not wait long."""


class Scene(Protocol):
    """What an attack can do: see race.py."""

    bank: LabBank
    clock: Clock

    def open_form(self) -> Form: ...
    def press(self, form: Form, how: str = "presses Pay") -> Page: ...
    def reload(self, page: Page) -> Page: ...
    def at_once(self, forms: list[Form], how: str) -> list[Page]: ...
    def do_as_told(self, page: Page, form: Form) -> Page: ...
    def kill_worker(self, number: int) -> None: ...
    def say(self, words: str) -> None: ...


def reload(scene: Scene) -> list[Page]:
    page = scene.press(scene.open_form())
    return [scene.reload(page)]


def back(scene: Scene) -> list[Page]:
    form = scene.open_form()
    scene.press(form)
    return [scene.press(form.restored(), "goes Back and presses Pay again")]


def double_click(scene: Scene) -> list[Page]:
    form = scene.open_form()
    return scene.at_once([form, form], "double-clicks Pay")


def twins(scene: Scene) -> list[Page]:
    form = scene.open_form()
    return scene.at_once([form.restored() for _ in range(TWINS)], f"the form arrives {TWINS} times at the same moment")


def second_tab(scene: Scene) -> list[Page]:
    tabs = [scene.open_form(), scene.open_form()]
    return scene.at_once(tabs, "presses Pay in both tabs")


def lost_answer(scene: Scene) -> list[Page]:
    scene.bank.fault = lose_first
    form = scene.open_form()
    return [scene.do_as_told(scene.press(form), form)]


def killed(scene: Scene) -> list[Page]:
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
    scene.clock.move(DAY + 60)
    scene.say("a day passes; the tab with the form is still open")
    return [scene.press(form.restored(), "presses Pay in it")]


@dataclass(frozen=True)
class Attack:
    """A column of the matrix."""

    number: int
    name: str
    words: str
    run: Callable[[Scene], list[Page]]
    timeout: float = PATIENT


ATTACKS = (
    Attack(1, "Reload", "The shopper reloads the page that they see after paying.", reload),
    Attack(2, "Back, pay again", "The shopper goes Back to the form and presses Pay again.", back),
    Attack(3, "Double-click", "The shopper clicks twice; both clicks are on their way at once.", double_click),
    Attack(4, "20 twins", "One form arrives 20 times at the same moment, as flaky networks and proxies can do.", twins),
    Attack(5, "Second tab", "The same purchase stands in two tabs, and Pay is pressed in both.", second_tab),
    Attack(6, "Lost answer", "The bank takes the money, its answer is lost; the shopper does what the page says.",
           lost_answer),
    Attack(7, "Worker killed", "The shop's process is killed after the bank took the money; the shopper reloads.",
           killed),
    Attack(8, "Bank never answers", "The bank takes the money and says nothing; the shopper does what the page says.",
           no_answer, HASTY),
    Attack(9, "A day later", "The same form is sent again after 24 hours.", day_later),
)  # fmt: skip
