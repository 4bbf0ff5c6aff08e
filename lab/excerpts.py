"""A few lines of the program's own source, read from its files: nothing on the lab's pages is a copy."""

import ast
import inspect
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

from app.charges import arrivals, models, protocol, recovery, rows, states, tokens
from app.shop import checkout, pages
from lab.defences import DEFENCES, payonce

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
"""For each attack, what stops it in PayOnce."""


@dataclass(frozen=True)
class Excerpt:
    """Lines of a file: its path in the project, the number of the first line, the lines and whether each is marked."""

    file: str
    first: int
    lines: list[tuple[str, bool]]


def of_defence(number: int) -> list[Excerpt]:
    """What this defence does with a form; the decisive line carries a comment, and is marked."""
    module = DEFENCES[number - 1].module
    return [excerpt(module, name) for name in ("form", "pay")] if module else []


def of_payonce(attack: int) -> list[Excerpt]:
    """What stops this attack."""
    return [excerpt(module, name) for module, name in PREVENTS[attack]]


@cache
def excerpt(module: ModuleType, name: str) -> Excerpt:
    """A function, class member or constant of a module, whole. Raises LookupError where it is gone."""
    text = inspect.getsource(module)
    node = _find(ast.parse(text), name)
    start = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])
    lines = text.splitlines()[start - 1 : node.end_lineno]
    indent = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    return Excerpt(path(module), start, [(_plain(line[indent:]), _is_marked(line)) for line in lines])


def path(module: ModuleType) -> str:
    """The module's file as the project knows it: "app/charges/protocol.py"."""
    return Path(inspect.getfile(module)).resolve().relative_to(ROOT).as_posix()


def files() -> dict[str, ModuleType]:
    """The files that the lab shows whole, by their paths."""
    return {path(module): module for module in MODULES}


def whole(module: ModuleType) -> Excerpt:
    """All of a file."""
    return Excerpt(path(module), 1, [(line, False) for line in inspect.getsource(module).splitlines()])


def _find(tree: ast.AST, name: str) -> ast.stmt:
    """By name, also inside another function; "Class.member" for a member."""
    head, _, member = name.partition(".")
    for node in ast.walk(tree):
        if head in _names(node):
            assert isinstance(node, ast.stmt)  # Only statements have names here.
            return _find(node, member) if member else node
    raise LookupError(name)


def _names(node: ast.AST) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _plain(line: str) -> str:
    """Without what only the linters read."""
    return re.sub(r"  # (fmt|noqa|nosec|type)\b.*", "", line)


def _is_marked(line: str) -> bool:
    return bool(re.search(r"\S  # (?!noqa|type|nosec|fmt)", line))
