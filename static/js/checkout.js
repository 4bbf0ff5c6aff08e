// Help, not guarantee: marks the button as busy and stops the second submit. The server charges once without it.
const form = document.querySelector("form[data-once]");
const button = form.querySelector("[data-busy]");
const status = form.querySelector("[data-status]");
const label = button.textContent;
const PATIENCE = 30_000; // milliseconds; longer than any answer takes, then the button comes back
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

// Out of the back/forward cache the page is as it was left: busy.
addEventListener("pageshow", (event) => event.persisted && giveBack(""));
addEventListener("offline", () => sent && giveBack("You are offline. When you are back, press the button again: you are charged once."));
