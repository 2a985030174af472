// Asks now and then whether the run has grown. The rows stay as they are under the reader's eyes; only the counts change, and a line that
// lies over the page, and is read out once, leads to what is new.
const EVERY_MS = 5000;

async function ask() {
  if (document.hidden) return;
  let now;
  try { now = await (await fetch("version")).json(); } catch { return; }  // the command has ended, or will answer the next time
  for (const one of document.querySelectorAll("[data-count]")) one.textContent = now.counts[one.dataset.count];
  const line = document.querySelector(".grown");
  if (String(now.version) === document.body.dataset.version || line.firstChild) return;
  const link = document.createElement("a");
  link.href = location.href;
  link.textContent = "Show what is new";
  line.append("The run has grown. ", link);
}

setInterval(ask, EVERY_MS);
