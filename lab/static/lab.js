// Shows new results and the bank's statement without a reload. Without this script the pages refresh themselves.
const INTERVAL = 700; // milliseconds between two requests

// Calls `request` until it returns true.
async function poll(request) {
  try {
    if (await request()) return;
  } catch {
    // The connection failed; the next request may succeed.
  }
  setTimeout(poll, INTERVAL, request);
}

async function get(url) {
  const response = await fetch(url, { headers: { Accept: "application/json" }, cache: "no-store" });
  if (!response.ok) throw new Error(response.status);
  return response.json();
}

const matrix = document.querySelector("[data-run]");
const beside = document.querySelector("[data-statement]");

if (matrix) poll(async () => {
  const { active, cells } = await get(matrix.dataset.run);
  for (const [name, html] of Object.entries(cells)) {
    const cell = document.getElementById(`cell-${name}`);
    // Replacing a cell that has the focus would take the focus away.
    if (cell.innerHTML !== html && !cell.contains(document.activeElement)) cell.innerHTML = html;
  }
  const played = Object.values(cells).filter((html) => html.includes("times") && html.includes("href")).length;
  matrix.querySelector("[data-status]").textContent = active ? `${played} results so far.` : "Played.";
  if (!active) location.reload();
  return !active;
});

if (beside) poll(async () => {
  beside.querySelector("[data-movements]").innerHTML = (await get(beside.dataset.statement)).html;
});
