// Asks for the payment's status and reloads the page when it has changed. Without scripts, a meta element reloads the page.
const page = document.querySelector("[data-ask]");
const status = page.querySelector("[data-status]");
const every = Number(page.dataset.every) * 1000; // milliseconds
const LONG = 10 * 60_000; // milliseconds; after that the page stops asking
const started = Date.now();

async function ask() {
  try {
    const answer = await fetch(page.dataset.ask, { headers: { Accept: "application/json" }, cache: "no-store" });
    if (answer.ok && (await answer.json()).status !== page.dataset.charge) return location.reload();
  } catch {
    // The connection failed. The next request may succeed.
  }
  if (Date.now() - started < LONG) return setTimeout(ask, every);
  if (status) status.textContent = "This is taking longer than usual. You can close this page and come back by its link.";
}

setTimeout(ask, every);
