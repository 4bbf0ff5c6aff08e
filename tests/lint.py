"""Rules that every page of the shop must obey, whatever its content is."""

from tests.dom import Element

TYPED = {"text", "email", "tel", "number", "password", "search", "url", "checkbox", "radio", "file", "date"}


def lint(root: Element) -> None:
    """Assert that the page has lang, title, one h1, one main, unique ids, labels and alt texts, and no inline code."""
    html = root.first("html")
    assert html is not None and html.attrs.get("lang"), "html has no lang"
    title = root.first("title")
    assert title is not None and title.text, "the page has no title"
    headings = root.all("h1")
    assert len(headings) == 1 and headings[0].text, (
        f"there must be exactly one h1: {[heading.text for heading in headings]}"
    )
    assert len(root.all("main")) == 1, "there must be exactly one main"
    ids = [element.attrs["id"] for element in root.walk() if "id" in element.attrs]
    assert len(ids) == len(set(ids)), f"ids that are used twice: {sorted(name for name in ids if ids.count(name) > 1)}"
    for element in root.walk():
        _element(element, root, set(ids))


def _element(element: Element, root: Element, ids: set[str]) -> None:
    attrs = element.attrs
    assert element.tag != "style", "inline style sheet"
    assert "style" not in attrs, f"inline style: {element}"
    assert not [name for name in attrs if name.startswith("on")], f"inline script: {element}"
    if element.tag == "script":
        assert "src" in attrs, "inline script"
    if element.tag == "img":
        assert "alt" in attrs, f"no alt: {element}"
    if element.tag in {"input", "select", "textarea"} and attrs.get("type", "text") in TYPED:
        assert _labelled(element, root), f"no label: {element}"
    if element.tag in {"a", "button"}:
        assert element.text or attrs.get("aria-label"), f"no text and no label: {element}"
    for name in ("for", "aria-describedby", "aria-labelledby"):
        for target in attrs.get(name, "").split():
            assert target in ids, f"{name} names an id that does not exist: {element}"
    if element.tag == "a" and attrs.get("href", "").startswith("#"):
        assert attrs["href"][1:] in ids, f"the link's target does not exist: {element}"
    if element.tag == "form":
        assert not element.all("form"), "a form inside a form"


def _labelled(element: Element, root: Element) -> bool:
    if "id" in element.attrs and any(label.text for label in root.all("label", **{"for": element.attrs["id"]})):
        return True
    ancestor = element.parent
    while ancestor is not None and ancestor.tag != "label":
        ancestor = ancestor.parent
    return ancestor is not None or bool(element.attrs.get("aria-label"))
