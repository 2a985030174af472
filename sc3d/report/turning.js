// What is drawn on a canvas is turned by dragging and by the arrow keys. A rotation is nine numbers, row by row.
function bytes(text) { return Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer; }

function multiply(a, b) {
  return a.map((_, i) => [0, 1, 2].reduce((sum, k) => sum + a[3 * Math.floor(i / 3) + k] * b[3 * k + (i % 3)], 0));
}

function turnAbout(axis, angle) {
  const c = Math.cos(angle), s = Math.sin(angle);
  return axis === "x" ? [1, 0, 0, 0, c, -s, 0, s, c] : [c, 0, s, 0, 1, 0, -s, 0, c];
}

// `turned` gets the rotation that comes on top of the present one.
function onTurn(canvas, turned) {
  const turn = (aboutY, aboutX) => turned(multiply(turnAbout("x", aboutX), turnAbout("y", aboutY)));
  let last = null;
  canvas.addEventListener("pointerdown", (e) => { last = [e.clientX, e.clientY]; canvas.setPointerCapture(e.pointerId); });
  canvas.addEventListener("pointerup", () => { last = null; });
  canvas.addEventListener("pointercancel", () => { last = null; });
  canvas.addEventListener("pointermove", (e) => {
    if (!last) return;
    turn((e.clientX - last[0]) * -0.01, (e.clientY - last[1]) * 0.01);
    last = [e.clientX, e.clientY];
  });
  canvas.addEventListener("keydown", (e) => {
    const step = { ArrowLeft: [0.15, 0], ArrowRight: [-0.15, 0], ArrowUp: [0, -0.15], ArrowDown: [0, 0.15] }[e.key];
    if (step) { e.preventDefault(); turn(...step); }
  });
}
