"""What must be true of every page of the shop, whatever it says."""

from tests.dom import Element

TYPED = {"text", "email", "tel", "number", "password", "search", "url", "checkbox", "radio", "file", "date"}


def lint(root: Element) -> None:
    """Fails with what is wrong: title, lang, one h1, unique ids, labels, no inline script or style, alt texts."""
    html = root.first("html")
    assert html is not None and html.attrs.get("lang"), "no lang"
    title = root.first("title")
    assert title is not None and title.text, "no title"
    headings = root.all("h1")
    assert len(headings) == 1 and headings[0].text, f"h1: {[heading.text for heading in headings]}"
    assert len(root.all("main")) == 1, "not one main"
    ids = [element.attrs["id"] for element in root.walk() if "id" in element.attrs]
    assert len(ids) == len(set(ids)), f"an id twice: {sorted(name for name in ids if ids.count(name) > 1)}"
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
        assert element.text or attrs.get("aria-label"), f"says nothing: {element}"
    for name in ("for", "aria-describedby", "aria-labelledby"):
        for target in attrs.get(name, "").split():
            assert target in ids, f"{name} leads nowhere: {element}"
    if element.tag == "a" and attrs.get("href", "").startswith("#"):
        assert attrs["href"][1:] in ids, f"leads nowhere: {element}"
    if element.tag == "form":
        assert not element.all("form"), "a form in a form"


def _labelled(element: Element, root: Element) -> bool:
    if "id" in element.attrs and any(label.text for label in root.all("label", **{"for": element.attrs["id"]})):
        return True
    around = element.parent
    while around is not None and around.tag != "label":
        around = around.parent
    return around is not None or bool(element.attrs.get("aria-label"))
