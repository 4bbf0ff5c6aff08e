// Shows that the form is being sent, and stops a second submit. The guarantee does not depend on this script: the server
// charges once without it.
const form = document.querySelector("form[data-once]");
const button = form.querySelector("[data-busy]");
const status = form.querySelector("[data-status]");
const label = button.textContent;
const PATIENCE = 30_000; // milliseconds; longer than any response takes. Then the button can be pressed again.
let sent = false;
let timer;

function giveBack(words) {
  sent = false;
  clearTimeout(timer);
  button.removeAttribute("aria-disabled");
  button.textContent = label;
  status.textContent = words;
}

form.addEventListener("submit", (event) => {
  if (sent) {
    event.preventDefault();
    return;
  }
  sent = true;
  button.setAttribute("aria-disabled", "true");
  button.textContent = button.dataset.busy;
  status.textContent = "Your payment is on its way to the bank.";
  timer = setTimeout(giveBack, PATIENCE, "No answer yet. You can press the button again: you are charged once.");
});

// The back/forward cache restores the page with its busy button, so reset the button.
addEventListener("pageshow", (event) => event.persisted && giveBack(""));
addEventListener("offline", () => sent && giveBack("You are offline. When you are back, press the button again: you are charged once."));
