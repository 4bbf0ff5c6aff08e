"""Reads the source code: the modules of the program, their imports, and the strings in the tests."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("app", "lab", "sandbox_bank")


@cache
def modules() -> list[tuple[str, Path]]:
    """Return the dotted name and the path of every module in PACKAGES, except migrations."""
    paths = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    named = [(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path) for path in paths]
    return [(name, path) for name, path in named if not name.startswith("app.migrations")]


@cache
def tree(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text(), str(path))


@cache
def imports(path: Path) -> set[str]:
    """Return the dotted names of everything that a file imports. `from a import b` is a.b if that is a module."""
    known = {name for name, _ in modules()}
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (names & known) or {str(node.module)}
            if not names <= known:
                found.add(str(node.module))
    return found


def package_of(name: str) -> str:
    """Return the package that a module belongs to, or the name of a module directly in `app`.

    app.charges.rows → charges; app.money → money; app → app; lab.views → lab; sandbox_bank.api → sandbox_bank.
    """
    parts = name.split(".")
    return parts[1] if parts[0] == "app" and len(parts) > 1 else parts[0]


def strings_of_tests() -> set[str]:
    """Return every string in the tests, with "x" in place of each expression of an f-string."""
    found = set()
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = [str(part.value) if isinstance(part, ast.Constant) else "x" for part in node.values]
                found.add("".join(parts))
    return found
