"""Excerpts of the program's source, read from its files, so that the Lab's pages never show an outdated copy."""

import ast
import inspect
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

from app.charges import arrivals, models, protocol, recovery, rows, states, tokens
from app.shop import checkout, pages
from lab.defences import DEFENCES, button, checked, keyless, none, payonce, prg, uncommitted

ROOT = Path(__file__).resolve().parent.parent

MODULES = (
    checkout, protocol, states, rows, tokens, models, recovery, arrivals, pages,
    *(defence.module for defence in DEFENCES if defence.module), payonce,
)  # fmt: skip

PREVENTS: dict[int, tuple[tuple[ModuleType, str], ...]] = {
    1: ((pages, "to_receipt"), (checkout, "pay")),
    2: ((checkout, "pay"), (arrivals, "record_repeat")),
    3: ((protocol, "_claim_or_find"), (rows, "CLAIM")),
    4: ((protocol, "_claim_or_find"), (rows, "CLAIM")),
    5: ((models, "Charge.__table_args__"), (rows, "BY_KEY_OR_ORDER")),
    6: ((protocol, "ask"),),
    7: ((protocol, "pay"), (recovery, "find_out")),
    8: ((protocol, "record_doubt"), (recovery, "find_out")),
    9: ((tokens, "Tokens.read"), (rows, "BY_KEY_OR_ORDER")),
}
"""For each attack, the code that stops it in PayOnce."""

DECISIVE: dict[tuple[ModuleType, str], str] = {
    (none, "pay"): 'return small_shop.page("paid")',
    (prg, "pay"): "client.charge(small_shop.PRICE, small_shop.CURRENCY)",
    (button, "form"): 'return small_shop.page("offer", script=True)',
    (checked, "pay"): "if order_id is None:",
    (uncommitted, "pay"): "client.charge(small_shop.PRICE, small_shop.CURRENCY)",
    (keyless, "pay"): '_set_status(order_id, "declined")',
}
"""The line of an excerpt that lets the attacks through, without indentation and comment. The pages mark it."""


@dataclass(frozen=True)
class Excerpt:
    """Lines of a file. `file` is relative to the project; `first` is the number of the first line.

    Each line comes with True if it is marked.
    """

    file: str
    first: int
    lines: list[tuple[str, bool]]


def of_defence(number: int) -> list[Excerpt]:
    """Return how this defence shows its form and pays; nothing for PayOnce."""
    module = DEFENCES[number - 1].module
    return [excerpt(module, name) for name in ("form", "pay")] if module else []


def of_payonce(attack: int) -> list[Excerpt]:
    """Return the code that stops this attack in PayOnce."""
    return [excerpt(module, name) for module, name in PREVENTS[attack]]


@cache
def excerpt(module: ModuleType, name: str) -> Excerpt:
    """Return a whole function, class, class member or constant of a module.

    `name` is its name, or "Class.member". Raises LookupError if the module does not define it.
    """
    text = inspect.getsource(module)
    node = _find(ast.parse(text), name)
    start = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])
    lines = text.splitlines()[start - 1 : node.end_lineno]
    indent = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    decisive = DECISIVE.get((module, name))
    return Excerpt(path(module), start, [(_plain(line[indent:]), is_decisive(line, decisive)) for line in lines])


def is_decisive(line: str, decisive: str | None) -> bool:
    """Return whether the code of this line, without indentation and comment, is the one that DECISIVE names."""
    return decisive is not None and (line.strip() == decisive or line.strip().startswith(f"{decisive}  # "))


def path(module: ModuleType) -> str:
    """Return the module's file relative to the project, such as "app/charges/protocol.py"."""
    return Path(inspect.getfile(module)).resolve().relative_to(ROOT).as_posix()


def files() -> dict[str, ModuleType]:
    """Return the modules that the Lab shows in full, by their files."""
    return {path(module): module for module in MODULES}


def whole(module: ModuleType) -> Excerpt:
    """Return the whole file."""
    return Excerpt(path(module), 1, [(line, False) for line in inspect.getsource(module).splitlines()])


def _find(tree: ast.AST, name: str) -> ast.stmt:
    """Find a definition by name, also inside another function; "Class.member" finds a member."""
    head, _, member = name.partition(".")
    for node in ast.walk(tree):
        if head in _names(node):
            assert isinstance(node, ast.stmt)  # `_names` returns names of statements only.
            return _find(node, member) if member else node
    raise LookupError(name)


def _names(node: ast.AST) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _plain(line: str) -> str:
    """Remove comments that are instructions to linters."""
    return re.sub(r"  # (fmt|noqa|nosec|type)\b.*", "", line)
