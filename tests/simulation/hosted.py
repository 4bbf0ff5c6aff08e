"""A provider with its own payment page, in a simulation.

The program's own gateway runs with the provider's real library. A stand-in from `tests.stripe` replaces the provider,
and there are no sockets. So this shows nothing about the provider itself. Every request is a step with the same fates
as a question to the bank. If a request fails before anything was done (`before`), the provider stores that answer under
its key, as the real one does.
"""

from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl
from uuid import UUID

import httpx

from app.charges.tokens import Token
from app.gateways.base import EventSubject, GatewayEvent, HostedPayment, PaymentLine, StatementEntry
from app.gateways.stripe.gateway import StripeGateway
from app.gateways.stripe.refunds import key_of
from app.gateways.stripe.requests import KEY, LEAST_AHEAD, SLACK
from lab.stage.actors import ACTION_WINDOW
from lab.stage.steps import PROGRAM_MODULES
from tests.stripe.provider import payments
from tests.stripe.provider.requests import Fault, Request, answer, nested
from tests.stripe.provider.state import API_KEY, APPROVES, KEY_LIFE, Object, Refusal, State

if TYPE_CHECKING:
    from lab.stage.stage import Stage

PROGRAM_MODULES.append(__name__)

ORIGIN = "http://provider"
ENDS = ACTION_WINDOW + LEAST_AHEAD + SLACK
EDGES = (ENDS - LEAST_AHEAD, ENDS - LEAST_AHEAD + SLACK, ENDS, KEY_LIFE)
"""Times in seconds at which a request can no longer be repeated, made or paid, or is forgotten."""


VERBS = {"expire": "cancel", "refunds": "refund"}
"""By the last part of the path. Every other POST creates a session."""


class HttpQuestion(NamedTuple):
    """A request. `key` is set only if the shop gave one; the library invents the others."""

    verb: str
    method: str
    path: str
    key: str
    form: str

    @classmethod
    def of(cls, request: httpx.Request) -> "HttpQuestion":
        method, path = request.method, request.url.path
        verb = "lookup" if method == "GET" else VERBS.get(path.rsplit("/")[-1], "charge")
        key = request.headers["Idempotency-Key"] if verb != "cancel" and method == "POST" else ""
        form = request.read() if method == "POST" else request.url.query
        return cls(verb, method, path, key, form.decode())


@dataclass
class Books(State):
    """The records of the provider, with our clock. The same schedule always gets the same ids."""

    clock: Callable[[], float] = lambda: 0.0
    ids_made: int = 0

    def now(self) -> int:
        return int(self.clock())

    def new_id(self, prefix: str) -> str:
        self.ids_made += 1
        return f"{prefix}_{self.ids_made}"

    def add_event(self, kind: str, about: Object) -> None:
        """Do nothing: the schedule says which events are sent, and when."""

    def copy(self) -> "Books":
        names = ("sessions", "intents", "charges", "refunds", "disputes")
        copies: dict[str, Any] = {
            name: {id_: dict(each) for id_, each in getattr(self, name).items()} for name in names
        }
        return replace(self, keys={key: replace(known) for key, known in self.keys.items()}, **copies)


@dataclass
class Provider:
    """The provider. It replaces the bank of other scenarios."""

    books: Books
    page_known: Callable[[str], bool]
    """Return whether the address of this key's page can be known outside of the shop."""
    held: list[HttpQuestion] = field(default_factory=list)

    def copy(self) -> "Provider":
        return replace(self, books=self.books.copy(), held=list(self.held))

    def hold_back(self, question: HttpQuestion) -> None:
        if question not in self.held:
            insort(self.held, question)

    def arrive(self, question: HttpQuestion, fate: str = "ok") -> httpx.Response:
        """Let the request reach the provider. Return its answer."""
        params = nested(parse_qsl(question.form, keep_blank_values=True))
        asked = Request(question.method, question.path, question.key or question.path, params)
        try:
            status, body, replayed = answer(self.books, asked, Fault("", "failed") if fate == "before" else None)
        except Refusal as refusal:
            status, body, replayed = refusal.status, refusal.body, False
        return httpx.Response(status, json=body, headers={"Idempotent-Replayed": str(replayed)})

    def sessions(self, key: str) -> list[Object]:
        return [each for each in self.books.sessions.values() if each["client_reference_id"] == key]

    def ended(self, key: str) -> bool:
        return any(each["status"] != "open" for each in self.sessions(key))

    def confirm_all(self) -> None:
        """Pay every session whose page a shopper can know."""
        for session in self.books.sessions.values():
            if self.page_known(session["client_reference_id"]):
                payments.pay(self.books, session, APPROVES)

    def correct_answers(self) -> None:
        """Take the money for every expired session, although the provider said that nobody could pay it any more."""
        for session in self.books.sessions.values():
            if session["status"] == "expired" and self.page_known(session["client_reference_id"]):
                session["status"] = "open"
                payments.pay(self.books, session, APPROVES)

    def forget_requests(self) -> None:
        """Drop the refunds that the network holds back: no connection lives for a day."""
        self.held = [question for question in self.held if question.verb != "refund"]

    def events(self) -> Iterator[GatewayEvent]:
        """Yield every event that the provider repeats until it is accepted: ended sessions, and refunds."""
        for session in self.books.sessions.values():
            if session["status"] != "open":
                yield _event(
                    f"{session['id']} {session['status']}",
                    EventSubject.PAYMENT,
                    session["client_reference_id"],
                    session["id"],
                )
        for refund in self.books.refunds.values():
            charge = self.books.charges[refund["charge"]]
            yield _event(refund["id"], EventSubject.REFUND, charge["metadata"][KEY], refund["payment_intent"])

    def taken(self) -> Counter[str]:
        """Return how often money was taken, by key."""
        return Counter(each["metadata"][KEY] for each in self.books.charges.values() if each["paid"])

    def statement(self) -> Iterator[StatementEntry]:
        for each in self.books.charges.values():
            yield StatementEntry(each["metadata"][KEY], "charge", each["amount"], "EUR", datetime.now(UTC))
        for each in self.books.refunds.values():
            yield StatementEntry(key_of(each), "refund", each["amount"], "EUR", datetime.now(UTC))

    def state(self) -> object:
        """Return everything that decides the provider's future answers, and what it did."""
        books = self.books
        sessions = sorted((each["client_reference_id"], each["id"], each["status"]) for each in books.sessions.values())
        now, keys = books.now(), books.keys.items()
        keys = sorted((key, known.answer and known.answer[0]) for key, known in keys if now - known.at < KEY_LIFE)
        refunds = sorted((key_of(each), each["amount"]) for each in books.refunds.values())
        return sessions, keys, sorted(self.taken().items()), refunds, sorted(self.held), [now > edge for edge in EDGES]


def _event(about: str, subject: EventSubject, key: str, reference: str) -> GatewayEvent:
    at = datetime.fromtimestamp(0, UTC)
    return GatewayEvent(f"event {about}", "a.kind", subject, at, key=key, gateway_reference=reference)


class SteppingTransport(httpx.BaseTransport):
    """The connection to the provider. Every request is a step of the schedule; `step` returns its fate."""

    def __init__(
        self, provider: Callable[[], Provider], step: Callable[[str, str], str], day: Callable[[], int]
    ) -> None:
        self._provider, self._step, self._day = provider, step, day

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        question, day = HttpQuestion.of(request), self._day()
        fate = self._step("look" if question.verb == "lookup" else "bank", question.verb)
        if fate == "refused":
            raise httpx.ConnectError(fate)
        if self._day() != day:
            raise httpx.ReadTimeout("the time for this request was over a day ago")
        if fate == "late":
            self._provider().hold_back(question)
            raise httpx.ReadTimeout(fate)
        response = self._provider().arrive(question, fate)
        if fate == "lost":
            raise httpx.ReadTimeout(fate)
        return response


class SimulatedStripeGateway(StripeGateway):
    """The program's own gateway, with the one account that there is. Recovery asks for it."""

    def __init__(self, transport: SteppingTransport) -> None:
        super().__init__(API_KEY, window=ACTION_WINDOW, api_base=ORIGIN, page_origin=ORIGIN, transport=transport)
        self._requests: dict[UUID, Any] = {}

    def of(self, name: str, account: str) -> "SimulatedStripeGateway":
        return self

    def request(self, token: Token) -> Any:
        """Return the request of this form. It never changes, because the shopper has the form open all the time."""
        if token.key not in self._requests:
            lines = [PaymentLine("Thing", 1, token.amount)]
            sale = HostedPayment(
                str(token.key),
                token.amount,
                token.currency,
                1,
                str(token.order_random_id),
                "",
                "http://shop/receipts/1",
                lines,
            )
            self._requests[token.key] = self.prepare(sale)
        return self._requests[token.key]


def provider(stage: "Stage") -> tuple[Provider, SimulatedStripeGateway]:
    """Return provider and gateway for `Scenario.bank`.

    A request for a payment may stand still for a day, because the provider refuses it then. It would not refuse one for
    a refund. So in scenarios with refunds, a process that stood still for a day sends nothing: its deadline is over.
    """

    def day() -> int:
        return int(stage.storage.clock // KEY_LIFE) if stage.scenario.paid else 0

    books = Books(origin=ORIGIN, clock=lambda: stage.storage.clock)
    return Provider(books, lambda key: page_known(stage, UUID(key))), SimulatedStripeGateway(
        SteppingTransport(lambda: stage.bank, stage.step, day)
    )


def page_known(stage: "Stage", key: UUID) -> bool:
    """Return whether the session's address can be known outside of the shop."""
    return bool(stage.storage.rows("SELECT 1 FROM charge WHERE key = ? AND gateway_reference IS NOT NULL", key.hex))
