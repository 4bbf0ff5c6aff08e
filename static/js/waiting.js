// Asks how the payment stands and moves on when that has changed. Without it the page refreshes itself.
const page = document.querySelector("[data-ask]");
const status = page.querySelector("[data-status]");
const every = Number(page.dataset.every) * 1000; // milliseconds
const LONG = 10 * 60_000; // then the link is enough
const started = Date.now();

async function ask() {
  try {
    const answer = await fetch(page.dataset.ask, { headers: { Accept: "application/json" }, cache: "no-store" });
    if (answer.ok && (await answer.json()).status !== page.dataset.charge) return location.reload();
  } catch {
    // The line is down; the next question may get through.
  }
  if (Date.now() - started < LONG) return setTimeout(ask, every);
  if (status) status.textContent = "This is taking longer than usual. You can close this page and come back by its link.";
}

setTimeout(ask, every);
