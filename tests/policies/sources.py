"""The program's own text: its modules, what each imports, and the strings of the tests."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
APP = ROOT / "app"


@cache
def modules() -> list[tuple[str, Path]]:
    """Dotted name and file of every module of the program, migrations left out."""
    paths = sorted(APP.rglob("*.py"))
    named = [(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path) for path in paths]
    return [(name, path) for name, path in named if not name.startswith("app.migrations")]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


@cache
def imports(path: Path) -> set[str]:
    """Dotted names of all that a file imports; `from a import b` counts as a.b where that is a module."""
    known = {name for name, _ in modules()}
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            deeper = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (deeper & known) or {str(node.module)}
            if not deeper <= known:
                found.add(str(node.module))
    return found


def room(name: str) -> str:
    """app.charges.rows → charges; app.money → money; app → app."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def strings_of_tests() -> set[str]:
    """Every text in the tests, with "x" where something is put in."""
    found = set()
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = [str(part.value) if isinstance(part, ast.Constant) else "x" for part in node.values]
                found.add("".join(parts))
    return found
