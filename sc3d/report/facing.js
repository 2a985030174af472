"use strict";
// The lines of the file are made from what is pressed, and nothing else is kept.
const cards = [...document.querySelectorAll(".facing")];

function pressed(card) {
  return card.querySelector('button[aria-pressed="true"]');
}

function show() {
  const settled = cards.filter((card) => pressed(card));
  cards.forEach((card) => card.classList.toggle("settled", settled.includes(card)));
  const lines = settled.map((card) => `${card.dataset.image},${pressed(card).dataset.side}\n`);
  const text = `image_id,facing\n${lines.join("")}`;
  document.getElementById("lines").value = text;
  document.getElementById("count").textContent = settled.length;
  document.getElementById("save").href = `data:text/csv;charset=utf-8,${encodeURIComponent(text)}`;
}

document.addEventListener("click", (event) => {
  const button = event.target.closest(".sides button");
  if (!button) return;
  const before = button.getAttribute("aria-pressed") === "true";
  button.closest(".sides").querySelectorAll("button").forEach((one) => one.setAttribute("aria-pressed", "false"));
  button.setAttribute("aria-pressed", String(!before));
  show();
});
show();
