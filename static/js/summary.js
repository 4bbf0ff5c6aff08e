// What went wrong, or changed, takes the focus, so that it is read first. For browsers without `autofocus` on it.
addEventListener("load", () => requestAnimationFrame(() => {
  if (document.activeElement === document.body) document.querySelector("[data-focus]")?.focus();
}));
