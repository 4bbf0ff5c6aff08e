// Times in the reader's own zone, named. Without it they stand there in UTC, which is as true.
const FORM = { day: "numeric", month: "long", year: "numeric", hour: "2-digit", minute: "2-digit", timeZoneName: "short" };

for (const time of document.querySelectorAll("time[datetime]")) {
  time.textContent = new Date(time.dateTime).toLocaleString(time.lang || navigator.language, FORM);
}
