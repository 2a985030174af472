// A mesh on a canvas without WebGL: a depth buffer decides what is hidden, of the surface and of the points drawn on it.
const POINT = 3.2, ROUTE = "#ffe14d";

class MeshView {
  // points: flat positions of the candidates from the box's centre in diagonals, null where there is none.
  constructor(canvas, mesh, points) {
    const view = new DataView(bytes(mesh.vertices)), faces = new DataView(bytes(mesh.faces));
    this.vertices = Float32Array.from({ length: view.byteLength / 2 }, (_, i) => view.getInt16(2 * i, true) / mesh.steps);
    this.faces = Int32Array.from({ length: faces.byteLength / 4 }, (_, i) => faces.getInt32(4 * i, true));
    this.points = points;
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.photo = mesh.rotation;
    this.rotation = mesh.rotation;
    this.marks = [];
    this.match = null;
    new ResizeObserver(() => this.resize()).observe(canvas);
    onTurn(canvas, (turn) => this.look(multiply(turn, this.rotation), false));
  }

  // `fit`: the mesh fills the canvas; otherwise it only gets smaller where it would not fit, so that it does not pulse while it is turned.
  look(rotation, fit = true) {
    this.rotation = rotation;
    this.shaded = null;
    if (!this.width) return;
    this.zoom = 1;
    this.centre = [0, 0];
    const low = [Infinity, Infinity], high = [-Infinity, -Infinity];
    for (let i = 0; i < this.vertices.length / 3; i++) {
      const at = this.vertex(i);
      for (const k of [0, 1]) { low[k] = Math.min(low[k], at[k]); high[k] = Math.max(high[k], at[k]); }
    }
    const size = Math.min(this.width / (high[0] - low[0]), this.height / (high[1] - low[1])) * 0.9;
    this.zoom = this.size = fit ? size : Math.min(size, this.size);
    this.centre = [0, 1].map((k) => (low[k] + high[k] - (k ? this.height : this.width)) / 2);
    this.draw();
  }

  resize() {
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    this.width = this.canvas.width = Math.max(1, Math.round(this.canvas.clientWidth * ratio));
    this.height = this.canvas.height = Math.max(1, Math.round(this.canvas.clientHeight * ratio));
    this.ratio = ratio;
    this.look(this.rotation);
  }

  // Canvas x and y, and depth (larger is farther) of a point.
  place(x, y, z) {
    const r = this.rotation;
    return [
      this.width / 2 + this.zoom * (r[0] * x + r[1] * y + r[2] * z - this.centre[0]),
      this.height / 2 + this.zoom * (r[3] * x + r[4] * y + r[5] * z - this.centre[1]),
      r[6] * x + r[7] * y + r[8] * z,
    ];
  }

  vertex(i) { return this.place(this.vertices[3 * i], this.vertices[3 * i + 1], this.vertices[3 * i + 2]); }

  point(i) {
    const x = this.points[3 * i];
    return x === null ? null : this.place(x, this.points[3 * i + 1], this.points[3 * i + 2]);
  }

  visible([x, y, depth]) {
    const column = Math.floor(x), row = Math.floor(y);
    if (column < 0 || row < 0 || column >= this.width || row >= this.height) return true;
    return depth <= this.depth[row * this.width + column] + 0.012;
  }

  shade() {
    const { width, height } = this, image = this.context.createImageData(width, height), pixels = image.data;
    const depth = (this.depth = new Float32Array(width * height).fill(Infinity));
    const n = this.vertices.length / 3, px = new Float32Array(n), py = new Float32Array(n), pz = new Float32Array(n);
    for (let i = 0; i < n; i++) [px[i], py[i], pz[i]] = this.vertex(i);
    for (let f = 0; f < this.faces.length; f += 3) {
      const a = this.faces[f], b = this.faces[f + 1], c = this.faces[f + 2];
      const ux = px[b] - px[a], uy = py[b] - py[a], vx = px[c] - px[a], vy = py[c] - py[a];
      const area = ux * vy - uy * vx;
      if (area === 0) continue;
      const dzx = ((pz[b] - pz[a]) * vy - (pz[c] - pz[a]) * uy) / area, dzy = ((pz[c] - pz[a]) * ux - (pz[b] - pz[a]) * vx) / area;
      // The slope of the depth is the normal; whatever is seen faces the viewer.
      const nx = -dzx * this.zoom, ny = -dzy * this.zoom, length = Math.hypot(nx, ny, 1);
      const light = 95 + 135 * Math.max(0, (0.45 * nx + 0.65 * ny + 0.61) / length);
      const left = Math.max(0, Math.floor(Math.min(px[a], px[b], px[c]))), right = Math.min(width - 1, Math.ceil(Math.max(px[a], px[b], px[c])));
      const top = Math.max(0, Math.floor(Math.min(py[a], py[b], py[c]))), bottom = Math.min(height - 1, Math.ceil(Math.max(py[a], py[b], py[c])));
      for (let y = top; y <= bottom; y++) {
        for (let x = left; x <= right; x++) {
          const dx = x + 0.5 - px[a], dy = y + 0.5 - py[a];
          const s = (dx * vy - dy * vx) / area, t = (dy * ux - dx * uy) / area;
          if (s < -1e-4 || t < -1e-4 || s + t > 1.0001) continue;
          const z = pz[a] + dzx * dx + dzy * dy, at = y * width + x;
          if (z >= depth[at]) continue;
          depth[at] = z;
          pixels[4 * at] = light * 0.93; pixels[4 * at + 1] = light * 0.96; pixels[4 * at + 2] = light; pixels[4 * at + 3] = 255;
        }
      }
    }
    return image;
  }

  draw() {
    if (!this.width) return;
    this.shaded = this.shaded || this.shade();
    const c = this.context, radius = POINT * this.ratio;
    c.putImageData(this.shaded, 0, 0);
    c.globalAlpha = this.match ? 0.3 : 1;
    for (const { index, colour } of this.marks) {
      const at = this.point(index);
      if (!at || !this.visible(at)) continue;
      c.beginPath();
      c.arc(at[0], at[1], radius, 0, 7);
      c.fillStyle = colour; c.fill();
      c.lineWidth = 0.7 * this.ratio; c.strokeStyle = "rgba(0,0,0,.55)"; c.stroke();
    }
    c.globalAlpha = 1;
    if (this.match) this.drawMatch(this.match);
  }

  drawMatch({ index, dominant, predicted, colour }) {
    const at = this.point(index);
    if (!at) return;
    const c = this.context, unit = this.ratio, ends = [this.vertex(dominant)];
    if (predicted >= 0) {
      this.ways = this.ways || new SurfaceWays(this.vertices, this.faces);
      const way = this.ways.between(dominant, predicted).map((at) => this.place(...at));
      for (const [colour_, width] of [["#000", 5.5], [ROUTE, 3]]) {
        for (let i = 1; i < way.length; i++) {
          c.setLineDash(this.visible(way[i - 1]) && this.visible(way[i]) ? [] : [2 * unit, 5 * unit]);
          c.beginPath(); c.moveTo(way[i - 1][0], way[i - 1][1]); c.lineTo(way[i][0], way[i][1]);
          c.lineWidth = width * unit; c.strokeStyle = colour_; c.stroke();
        }
      }
      c.setLineDash([]);
      ends.push(this.vertex(predicted));
    }
    const shape = (draw, fill, hidden) => {
      c.beginPath(); draw(); c.closePath();
      c.globalAlpha = hidden ? 0.6 : 1;
      if (fill) { c.fillStyle = fill; c.fill(); c.lineWidth = 1.8 * unit; c.strokeStyle = "#000"; c.stroke(); }
      else { c.lineWidth = 4.4 * unit; c.strokeStyle = "#000"; c.stroke(); c.lineWidth = 2.2 * unit; c.strokeStyle = "#fff"; c.stroke(); }
      c.globalAlpha = 1;
    };
    shape(() => c.arc(at[0], at[1], 5 * unit, 0, 7), colour, !this.visible(at));
    shape(() => c.arc(ends[0][0], ends[0][1], 8 * unit, 0, 7), "", !this.visible(ends[0]));
    if (ends[1]) {
      const [x, y] = ends[1], r = 8 * unit;
      shape(() => { c.moveTo(x, y - r); c.lineTo(x + r, y); c.lineTo(x, y + r); c.lineTo(x - r, y); }, ROUTE, !this.visible(ends[1]));
    }
  }

  // Turns the middle between the match's two vertices towards the viewer.
  face({ dominant, predicted }) {
    const v = this.vertices, other = predicted >= 0 ? predicted : dominant, m = [0, 1, 2].map((k) => v[3 * dominant + k] + v[3 * other + k]);
    this.look(this.frontal(Math.atan2(m[0], m[2]), Math.max(-0.9, Math.min(0.9, Math.atan2(m[1], Math.hypot(m[0], m[2]))))));
  }

  // A view of the canonical frame (y up) from a direction: azimuth from +z towards +x, and elevation, in radians.
  frontal(azimuth, elevation) {
    return multiply(turnAbout("x", elevation), multiply([1, 0, 0, 0, -1, 0, 0, 0, -1], turnAbout("y", -azimuth)));
  }

  // The candidate among the marks that is drawn nearest to a place in the window, at most ten pixels away; -1 if none is.
  nearest(x, y) {
    const box = this.canvas.getBoundingClientRect();
    let best = 10 * this.ratio, found = -1;
    for (const { index } of this.marks) {
      const at = this.point(index);
      if (!at || !this.visible(at)) continue;
      const distance = Math.hypot(at[0] - (x - box.x) * this.ratio, at[1] - (y - box.y) * this.ratio);
      if (distance < best) { best = distance; found = index; }
    }
    return found;
  }
}
