// Moves the focus to the note about errors or changes, so that screen readers read it first. Some browsers support
// `autofocus` only on form fields.
addEventListener("load", () => requestAnimationFrame(() => {
  if (document.activeElement === document.body) document.querySelector("[data-focus]")?.focus();
}));
