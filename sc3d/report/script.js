"use strict";
// Follow a match: pointing at a cell of the left photo shows where it was matched to, and why it was kept or rejected.
document.documentElement.classList.add("js");
const FATES = ["kept", "rejected by the cycle", "rejected by the surface", "rejected by the geodesic test", "passes, but the template puts it elsewhere in the other photo", "passes, but too few of the pair do"];

function decode(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const rows = new Map();
  for (let at = 0; at < bytes.length; at += 12) {
    const value = (i) => view.getInt16(at + 2 * i, true);
    rows.set(value(0), { target: value(1), fate: value(2), cosine: value(3) / 1000, cycle: value(4) / 10, geodesic: value(5) / 10000 });
  }
  return rows;
}

for (const figure of document.querySelectorAll(".pair")) {
  const svg = figure.querySelector("svg.match");
  const probe = svg.querySelector(".probe");
  const caption = figure.querySelector(".probe-text");
  const idle = caption.textContent;
  const side = Number(svg.dataset.side);
  const grids = ["source", "target"].map((name) => svg.dataset[name].split(" ").map(Number));
  const [line, ...rings] = probe.children;
  let rows = null;

  const centre = ([x, y, step], cell) => [x + ((cell % side) + 0.5) * step, y + (Math.floor(cell / side) + 0.5) * step];
  const leave = () => { probe.setAttribute("hidden", ""); caption.textContent = idle; };

  const follow = (event) => {
    rows = rows || decode(svg.dataset.evidence);
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    const [x, y, step] = grids[0];
    const column = Math.floor((point.x - x) / step), row = Math.floor((point.y - y) / step);
    const cell = row * side + column;
    const match = column >= 0 && row >= 0 && column < side && row < side ? rows.get(cell) : undefined;
    if (!match) return leave();
    const ends = [centre(grids[0], cell), centre(grids[1], match.target)];
    ends.forEach(([cx, cy], i) => { rings[i].setAttribute("cx", cx); rings[i].setAttribute("cy", cy); });
    line.setAttribute("d", `M${ends[0]}L${ends[1]}`);
    probe.setAttribute("class", `probe fate-${match.fate}`);
    probe.removeAttribute("hidden");
    const geodesic = match.geodesic < 0 ? "geodesic error too large to measure" : `geodesic error ${match.geodesic.toFixed(3)} mesh diagonals`;
    caption.textContent = `${FATES[match.fate]} · cosine ${match.cosine.toFixed(2)} · back within ${match.cycle.toFixed(0)} px · ${geodesic}`;
  };
  svg.addEventListener("pointermove", follow);
  svg.addEventListener("pointerdown", follow);
  svg.addEventListener("pointerleave", leave);
}
