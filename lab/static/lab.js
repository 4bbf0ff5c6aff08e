// Results and the bank's statement arrive without a reload. Without this script the pages refresh themselves.
const PACE = 700; // milliseconds between two questions

async function every(ask) {
  try {
    if (await ask()) return;
  } catch {
    // The line is down; the next question may get through.
  }
  setTimeout(every, PACE, ask);
}

async function get(url) {
  const answer = await fetch(url, { headers: { Accept: "application/json" }, cache: "no-store" });
  if (!answer.ok) throw new Error(answer.status);
  return answer.json();
}

const matrix = document.querySelector("[data-run]");
const beside = document.querySelector("[data-statement]");

if (matrix) every(async () => {
  const { going, cells } = await get(matrix.dataset.run);
  for (const [name, html] of Object.entries(cells)) {
    const cell = document.getElementById(`cell-${name}`);
    if (cell.innerHTML !== html && !cell.contains(document.activeElement)) cell.innerHTML = html;
  }
  const played = Object.values(cells).filter((html) => html.includes("times") && html.includes("href")).length;
  matrix.querySelector("[data-status]").textContent = going ? `${played} results so far.` : "Played.";
  if (!going) location.reload();
  return !going;
});

if (beside) every(async () => {
  beside.querySelector("[data-movements]").innerHTML = (await get(beside.dataset.statement)).html;
});
