// A cloud of points on a canvas: the nearest are drawn last, and largest.
class CloudView {
  constructor(canvas) {
    const { points, colours, rotation } = canvas.dataset, at = new DataView(bytes(points));
    this.points = Float32Array.from({ length: at.byteLength / 2 }, (_, i) => at.getInt16(2 * i, true) / 32767);
    this.colours = new Uint8Array(bytes(colours));
    this.rotation = rotation.split(" ").map(Number);
    this.canvas = canvas;
    onTurn(canvas, (turn) => { this.rotation = multiply(turn, this.rotation); this.draw(); });
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  draw() {
    const { canvas, points, colours, rotation: r } = this, ratio = Math.min(window.devicePixelRatio || 1, 2);
    const width = (canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio)));
    const height = (canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio)));
    const c = canvas.getContext("2d"), zoom = 0.47 * Math.min(width, height), n = points.length / 3;
    const along = (row, i) => r[row] * points[3 * i] + r[row + 1] * points[3 * i + 1] + r[row + 2] * points[3 * i + 2];
    const depth = Float32Array.from({ length: n }, (_, i) => along(6, i));
    for (const i of [...depth.keys()].sort((a, b) => depth[b] - depth[a])) {
      c.beginPath();
      c.arc(width / 2 + zoom * along(0, i), height / 2 + zoom * along(3, i), ratio * (2 - 0.9 * depth[i]), 0, 7);
      c.fillStyle = `rgb(${colours[3 * i]} ${colours[3 * i + 1]} ${colours[3 * i + 2]} / ${0.8 - 0.35 * depth[i]})`;
      c.fill();
    }
  }
}

for (const canvas of document.querySelectorAll("canvas.cloud")) new CloudView(canvas);
