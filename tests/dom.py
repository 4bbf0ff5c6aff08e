"""A small, strict HTML parser: a tree of elements with attributes, children and text."""

from collections.abc import Iterator
from html.parser import HTMLParser

VOID = frozenset("area base br col embed hr img input link meta source track wbr".split())


class Element:
    """One element. `parent` is None for the root of the page."""

    def __init__(self, tag: str, attrs: dict[str, str], parent: "Element | None") -> None:
        self.tag, self.attrs, self.parent = tag, attrs, parent
        self.children: list[Element | str] = []

    def __repr__(self) -> str:
        return f"<{self.tag} {self.attrs}>"

    def walk(self) -> Iterator["Element"]:
        """Yield every element below this one, in the order of the page."""
        for child in self.children:
            if isinstance(child, Element):
                yield child
                yield from child.walk()

    def all(self, *tags: str, **attrs: str) -> list["Element"]:
        """Return the elements below this one that have one of the tags and all of the attributes.

        `class_` is one of the element's classes.
        """
        wanted = attrs.pop("class_", None)
        return [
            found
            for found in self.walk()
            if (not tags or found.tag in tags)
            and all(found.attrs.get(name) == value for name, value in attrs.items())
            and (wanted is None or wanted in found.attrs.get("class", "").split())
        ]

    def first(self, *tags: str, **attrs: str) -> "Element | None":
        """Return the first element of `all`, or None."""
        return next(iter(self.all(*tags, **attrs)), None)

    @property
    def text(self) -> str:
        """Return the visible text, with each run of white space replaced by one space."""
        return " ".join("".join(self._parts()).split())

    def _parts(self) -> Iterator[str]:
        if self.tag in {"script", "style"}:
            return
        for child in self.children:
            if isinstance(child, str):
                yield child
            else:
                inline = child.tag in {"a", "b", "em", "span", "strong", "time"}
                yield "" if inline else " "
                yield from child._parts()
                yield "" if inline else " "


class _Builder(HTMLParser):
    """Builds the tree. Every element that is opened must be closed, in order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = self.here = Element("", {}, None)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> has two attributes of the same name: {names}"
        element = Element(tag, {name: value or "" for name, value in attrs}, self.here)
        self.here.children.append(element)
        if tag not in VOID:
            self.here = element

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.here.tag, f"</{tag}> closes <{self.here.tag}>"
        assert self.here.parent is not None
        self.here = self.here.parent

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_data(self, data: str) -> None:
        self.here.children.append(data)


def parse(html: str) -> Element:
    """Return the page's tree. Fails if elements are not closed in order."""
    builder = _Builder()
    builder.feed(html)
    builder.close()
    assert builder.here is builder.root, f"<{builder.here.tag}> is never closed"
    return builder.root
