// Shows times in the reader's own time zone, with its name. Without this script they are in UTC.
const FORM = { day: "numeric", month: "long", year: "numeric", hour: "2-digit", minute: "2-digit", timeZoneName: "short" };

for (const time of document.querySelectorAll("time[datetime]")) {
  time.textContent = new Date(time.dateTime).toLocaleString(time.lang || navigator.language, FORM);
}
