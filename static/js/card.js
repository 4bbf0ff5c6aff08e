// Formats the card fields during typing: the number in groups of four, the expiry date with a slash. The server accepts
// both without this format too.
const number = document.querySelector("[autocomplete=cc-number]");
const expiry = document.querySelector("[autocomplete=cc-exp]");

const digits = (text) => text.replace(/\D/g, "");
const grouped = (text) => digits(text).slice(0, 19).replace(/(\d{4})(?=\d)/g, "$1 ");
const slashed = (text) => {
  const [month, ...rest] = text.split("/");
  if (rest.length) return `${digits(month).padStart(2, "0").slice(-2)}/${digits(rest.join("")).slice(0, 4)}`;
  return digits(text).slice(0, 6).replace(/^(\d\d)(\d+)$/, "$1/$2");
};

// Write the formatted text, and keep the caret behind the same digit.
function rewrite(input, written) {
  if (written === input.value) return;
  const before = digits(input.value.slice(0, input.selectionStart)).length;
  input.value = written;
  let place = 0;
  for (let seen = 0; seen < before && place < written.length; place += 1) if (/\d/.test(written[place])) seen += 1;
  input.setSelectionRange(place, place);
}

number.addEventListener("input", () => rewrite(number, grouped(number.value)));
expiry.addEventListener("change", () => rewrite(expiry, slashed(expiry.value)));
expiry.addEventListener("input", () => {
  if (expiry.value.length === 4 && !expiry.value.includes("/")) rewrite(expiry, slashed(expiry.value));
});
