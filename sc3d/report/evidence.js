// The pair's candidates on photos, meshes and in the list, linked to each other: pointing shows one, a click or the keyboard holds it.
document.documentElement.classList.add("js");
const DATA = JSON.parse(document.getElementById("data").textContent);
const C = DATA.candidates, N = C.fate.length, LIMITS = DATA.limits;
const SVG = "http://www.w3.org/2000/svg";
const by = (id) => document.getElementById(id);
const photos = by("photos"), verdict = by("verdict"), idle = verdict.textContent, list = by("list"), body = list.tBodies[0];
// By fate; those that reject nothing may have no box.
const boxes = [];
for (const box of document.querySelectorAll(".show-fate")) boxes[box.value] = box;
const figures = [...document.querySelectorAll(".meshes figure")];
const meshes = figures.map((figure, side) => {
  const canvas = figure.querySelector("canvas");
  return canvas && DATA.meshes[side] ? new MeshView(canvas, DATA.meshes[side], C.points[side]) : null;
});
let held = -1, pointed = -1, sorted = { key: "index", up: true }, order = [...Array(N).keys()];

const end = (side, i) => [C.ends[side][2 * i], C.ends[side][2 * i + 1]];
const shown = (i) => boxes[C.fate[i]].checked;
const current = () => (pointed >= 0 ? pointed : held);
const lifted = (i) => C.dominant[0][i] >= 0;

function element(name, attributes, parent) {
  const made = document.createElementNS(SVG, name);
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  return parent.appendChild(made);
}

function distance(value, i, reach) {
  if (!lifted(i)) return "–";
  return value === null ? `> ${reach.toFixed(2)}` : value.toFixed(3);
}
// The error is the mean of two distances; of one that is too far to be known, it is known how far it is at least.
const geodesic = (i) => distance(C.geodesic[i], i, [0, 1].reduce((sum, side) => sum + (C.terms[side][i] ?? LIMITS.reach[side]) / 2, 0));
const term = (side, i) => distance(C.terms[side][i], i, LIMITS.reach[side]);

function why(i) {
  const fate = C.fate[i], px = C.cycle[i].toFixed(1), extents = C.extents[i].toFixed(3);
  const back = C.cycle[i] === 0 ? "matched back, it returns exactly" : `matched back, it lands ${px} px (${extents} extents) from the start`;
  const surface = `on the source mesh the prediction is ${term(0, i)} diagonals off, on the target mesh ${term(1, i)}; their mean is ${geodesic(i)}`;
  const first = `Candidate ${i + 1}, cosine ${C.cosine[i].toFixed(3)}. `;
  if (fate === 0) return `${first}Kept: ${back} (at most ${LIMITS.cycle.toFixed(1)} px), and ${surface} (at most ${LIMITS.geodesic}).`;
  if (fate === 1) return `${first}Rejected by the cycle: ${back}, more than ${LIMITS.cycle.toFixed(1)} px.` + (lifted(i) ? ` For what it is worth, ${surface}.` : "");
  if (fate === 2) return `${first}Rejected by the surface: no mesh lies behind one of the two spots, so nothing can be verified (${back}).`;
  if (fate === 4) return `${first}It passes (${back}; ${surface}), but the template puts its point elsewhere in the other photo.`;
  if (fate === 5) return `${first}It passes (${back}; ${surface}), but too few candidates of this pair do: the photos share too little, or a pose is wrong.`;
  return `${first}Rejected by the geodesic test: ${surface}, more than ${LIMITS.geodesic} (${back}).`;
}

function colourOf(i) {
  const mode = by("colour").value;
  if (mode === "fate") return DATA.fateColours[C.fate[i]];
  if (mode === "position") return C.colour[i];
  if (!lifted(i)) return "#8a8f98";
  // Cividis, in steps of half the threshold, from dark blue to yellow: twice the threshold and more, or too far to be known.
  const steps = ["#00224e", "#434e6c", "#7d7c78", "#bcae6c", "#fee838"];
  const error = C.geodesic[i];
  return steps[error === null ? 4 : Math.min(4, Math.floor((2 * error) / LIMITS.geodesic))];
}

function drawMarks() {
  const shapes = boxes.map((box) => box.parentElement.querySelector(".mark path").getAttribute("d"));
  const strokes = by("strokes"), marks = by("marks");
  strokes.replaceChildren();
  marks.replaceChildren();
  for (let i = 0; i < N; i++) {
    const colour = colourOf(i), fate = C.fate[i];
    element("path", { class: `fate-${fate}${C.drawn[i] ? " few" : ""}`, style: `color:${colour}`, d: `M${end(0, i)}L${end(1, i)}` }, strokes);
    const group = element("g", { class: `fate-${fate}`, style: `color:${colour}`, "data-i": i }, marks);
    for (const side of [0, 1]) {
      const transform = `translate(${end(side, i)}) scale(${Math.min(1.1, (DATA.cells[side] * 0.42) / 5).toFixed(3)})`;
      for (const layer of ["under", "over"]) element("path", { class: layer, d: shapes[fate], transform, "vector-effect": "non-scaling-stroke" }, group);
    }
  }
}

function refresh() {
  boxes.forEach((box, fate) => [photos, list].forEach((part) => part.classList.toggle(`hide-${fate}`, !box.checked)));
  by("strokes").setAttribute("class", by("lines").value);
  const visible = order.filter(shown);
  const marks = visible.filter(lifted).map((index) => ({ index, colour: colourOf(index) }));
  for (const mesh of meshes) if (mesh) { mesh.marks = marks; mesh.draw(); }
  by("shown").textContent = `${visible.length} of ${N} candidates are listed.`;
  rove();
}

// One row can be reached with the Tab key: the held one, or the first.
function rove() {
  for (const row of body.rows) row.tabIndex = -1;
  const i = held >= 0 && shown(held) ? held : order.find(shown);
  if (i !== undefined) rowOf[i].tabIndex = 0;
}

function highlight() {
  const i = current(), probe = by("probe");
  photos.classList.toggle("held", i >= 0);
  for (const row of list.querySelectorAll("tr.current, tr.held")) row.classList.remove("current", "held");
  if (held >= 0) rowOf[held].classList.add("held");
  document.querySelector("[data-view=match]").disabled = i < 0 || !lifted(i);
  if (i < 0) {
    probe.setAttribute("hidden", "");
    verdict.textContent = idle;
  } else {
    rowOf[i].classList.add("current");
    const [halo, carried, link, back, ...rings] = probe.children;
    const put = C.carried && [C.carried.ends[2 * i], C.carried.ends[2 * i + 1]];
    carried.setAttribute("d", put ? `M${end(0, i)}L${put}M${put[0] - 6} ${put[1] - 6}h12v12h-12Z` : "");
    halo.setAttribute("d", `M${end(0, i)}L${end(1, i)}`);
    link.setAttribute("d", `M${end(0, i)}L${end(1, i)}`);
    const home = [C.returned[2 * i], C.returned[2 * i + 1]];
    back.setAttribute("d", C.cycle[i] > 0 ? `M${end(1, i)}L${home}M${home[0] - 5} ${home[1] - 5}l10 10m0 -10l-10 10` : "");
    rings.forEach((ring, side) => { const [x, y] = end(side, i); ring.setAttribute("cx", x); ring.setAttribute("cy", y); });
    probe.removeAttribute("hidden");
    verdict.textContent = why(i) + (put ? ` The class shape puts it ${C.carried.away[i].toFixed(0)} px from there.` : "");
  }
  meshes.forEach((mesh, side) => {
    const ends = i >= 0 && lifted(i) ? { index: i, dominant: C.dominant[side][i], predicted: C.predicted[side][i], colour: colourOf(i) } : null;
    figures[side].querySelector(".said").textContent = i < 0 ? "" : ends ? `${term(side, i)} diagonals from the dominant to the predicted vertex` : "no surface behind this match";
    if (mesh) { mesh.match = ends; mesh.draw(); }
  });
}

function point(i, scroll) {
  if (i === pointed) return;
  pointed = i;
  highlight();
  if (scroll && i >= 0) reveal(i);
}

function hold(i, focus) {
  held = i;
  pointed = -1;
  rove();
  highlight();
  if (i < 0) return;
  if (focus) rowOf[i].focus({ preventScroll: true });
  reveal(i);
}

// Scrolls the list, and not the page, to a row.
function reveal(i) {
  const area = list.parentElement, row = rowOf[i], head = list.tHead.offsetHeight;
  if (row.offsetTop < area.scrollTop + head) area.scrollTop = row.offsetTop - head;
  else if (row.offsetTop + row.offsetHeight > area.scrollTop + area.clientHeight) area.scrollTop = row.offsetTop + row.offsetHeight - area.clientHeight;
}

const KEYS = {
  index: (i) => i, fate: (i) => C.fate[i], cosine: (i) => C.cosine[i], cycle: (i) => C.cycle[i], extents: (i) => C.extents[i],
  geodesic: (i) => known(C.geodesic[i], i), source: (i) => known(C.terms[0][i], i), target: (i) => known(C.terms[1][i], i),
};
// What is too far to be measured comes after what is not, and what cannot be measured last.
const known = (value, i) => (lifted(i) ? (value === null ? 1e9 : value) : 2e9);

function sortBy(key) {
  sorted = { key, up: sorted.key === key ? !sorted.up : key !== "cosine" };
  const sign = sorted.up ? 1 : -1;
  order.sort((a, b) => sign * (KEYS[key](a) - KEYS[key](b)) || a - b);
  body.append(...order.map((i) => rowOf[i]));
  for (const button of list.tHead.querySelectorAll("button")) {
    button.parentElement.setAttribute("aria-sort", button.dataset.key !== key ? "none" : sorted.up ? "ascending" : "descending");
  }
  rove();
}

const rowOf = order.map((i) => {
  const row = body.insertRow();
  const over = [C.fate[i] === 1, C.fate[i] === 1, lifted(i) && (C.geodesic[i] === null || C.geodesic[i] > LIMITS.geodesic)];
  const texts = [i + 1, DATA.fates[C.fate[i]], C.cosine[i].toFixed(3), C.cycle[i].toFixed(1), C.extents[i].toFixed(3), geodesic(i), term(0, i), term(1, i)];
  texts.forEach((text, column) => {
    const cell = row.insertCell();
    cell.textContent = text;
    if (column >= 2) cell.className = column >= 3 && over[column - 3] ? "n over-limit" : "n";
  });
  const dot = document.createElement("i");
  dot.style.background = C.colour[i];
  row.cells[1].prepend(dot);
  row.className = `fate-${C.fate[i]}`;
  row.addEventListener("pointerenter", () => point(i));
  row.addEventListener("click", () => hold(held === i ? -1 : i, true));
  row.addEventListener("focus", () => { if (held !== i) hold(i); });
  return row;
});

body.addEventListener("keydown", (event) => {
  const visible = order.filter(shown), at = visible.indexOf(held), last = visible.length - 1;
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + 15, PageUp: at - 15, Home: 0, End: last }[event.key];
  if (to === undefined || last < 0) return;
  event.preventDefault();
  hold(visible[Math.max(0, Math.min(last, to))], true);
});
body.addEventListener("pointerleave", () => point(-1));
document.addEventListener("keydown", (event) => { if (event.key === "Escape") hold(-1); });
list.tHead.addEventListener("click", (event) => { const button = event.target.closest("button"); if (button) sortBy(button.dataset.key); });

// The visible candidate with an end nearest to the pointer, on whichever photo it is; within a cell and a half.
function under(event) {
  const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(photos.getScreenCTM().inverse());
  let best = Infinity, found = -1;
  for (let i = 0; i < N; i++) {
    if (!shown(i)) continue;
    for (const side of [0, 1]) {
      const [x, y] = end(side, i), away = Math.hypot(x - at.x, y - at.y) / DATA.cells[side];
      if (away < best && away < 1.5) { best = away; found = i; }
    }
  }
  return found;
}
photos.addEventListener("pointermove", (event) => point(under(event), true));
photos.addEventListener("pointerleave", () => point(-1));
photos.addEventListener("click", (event) => hold(under(event)));
for (const mesh of meshes) {
  if (!mesh) continue;
  mesh.canvas.addEventListener("pointermove", (event) => { if (!event.buttons) point(mesh.nearest(event.clientX, event.clientY), true); });
  mesh.canvas.addEventListener("pointerleave", () => point(-1));
  mesh.canvas.addEventListener("click", (event) => { const i = mesh.nearest(event.clientX, event.clientY); if (i >= 0) hold(i); });
}
const VIEWS = {
  photo: (mesh) => mesh.look(mesh.photo),
  behind: (mesh) => mesh.look(multiply(turnAbout("y", Math.PI), mesh.photo)),
  front: (mesh) => mesh.look(mesh.frontal(0.5, 0.35)),
  match: (mesh) => { if (mesh.match) mesh.face(mesh.match); },
};
for (const button of document.querySelectorAll("[data-view]")) {
  button.addEventListener("click", () => meshes.forEach((mesh) => mesh && VIEWS[button.dataset.view](mesh)));
}
for (const box of boxes) box.addEventListener("change", () => { if (held >= 0 && !shown(held)) hold(-1); refresh(); });
by("lines").addEventListener("change", refresh);
by("colour").addEventListener("change", () => { drawMarks(); refresh(); highlight(); });
drawMarks();
sortBy("geodesic");
refresh();
