"use strict";
// Short ways over a mesh, for drawing. Ways along the edges alone zigzag over large triangles, so long edges get stations between their
// ends, and a way may cross a face between any two points on its rim. (Errors are measured by the pipeline, not here.)
const STATION_STEP = 0.03, MOST_STATIONS = 6;

class SurfaceWays {
  // vertices: flat positions in diagonals; faces: flat vertex indices.
  constructor(vertices, faces) {
    const n = vertices.length / 3, edges = new Map();
    this.positions = Array.from(vertices);
    this.rims = [];
    this.facesOf = Array.from({ length: n }, () => []);
    for (let f = 0; f < faces.length / 3; f++) {
      const corners = [faces[3 * f], faces[3 * f + 1], faces[3 * f + 2]], rim = [...corners];
      for (const corner of corners) this.facesOf[corner].push(f);
      for (let k = 0; k < 3; k++) {
        const a = Math.min(corners[k], corners[(k + 1) % 3]), b = Math.max(corners[k], corners[(k + 1) % 3]), key = a * n + b;
        if (!edges.has(key)) edges.set(key, this.stations(a, b));
        for (const station of edges.get(key)) { rim.push(station); this.facesOf[station].push(f); }
      }
      this.rims.push(rim);
    }
  }

  stations(a, b) {
    const p = this.positions, made = [], count = Math.min(MOST_STATIONS, Math.floor(this.apart(a, b) / STATION_STEP));
    for (let i = 1; i <= count; i++) {
      const t = i / (count + 1);
      for (let k = 0; k < 3; k++) p.push((1 - t) * p[3 * a + k] + t * p[3 * b + k]);
      made.push(this.facesOf.push([]) - 1);
    }
    return made;
  }

  apart(i, j) {
    const p = this.positions;
    return Math.hypot(p[3 * i] - p[3 * j], p[3 * i + 1] - p[3 * j + 1], p[3 * i + 2] - p[3 * j + 2]);
  }

  // Points of a short way between two vertices, as [x, y, z]; only the two ends where loose parts of the mesh keep them apart.
  between(from, to) {
    const n = this.facesOf.length, distance = new Float64Array(n).fill(Infinity), before = new Int32Array(n).fill(-1), heap = [[0, from]];
    distance[from] = 0;
    while (heap.length) {
      const [d, i] = pop(heap);
      if (i === to) break;
      if (d > distance[i]) continue;
      for (const f of this.facesOf[i]) {
        for (const j of this.rims[f]) {
          const next = d + this.apart(i, j);
          if (next < distance[j]) { distance[j] = next; before[j] = i; push(heap, [next, j]); }
        }
      }
    }
    const way = [to];
    if (before[to] < 0 && from !== to) way.push(from);
    else while (way[way.length - 1] !== from) way.push(before[way[way.length - 1]]);
    return way.reverse().map((i) => this.positions.slice(3 * i, 3 * i + 3));
  }
}

function push(heap, item) {
  let i = heap.push(item) - 1;
  for (let up; i > 0 && heap[(up = (i - 1) >> 1)][0] > item[0]; i = up) heap[i] = heap[up];
  heap[i] = item;
}

function pop(heap) {
  const top = heap[0], item = heap.pop();
  if (!heap.length) return top;
  let i = 0;
  for (;;) {
    let down = 2 * i + 1;
    if (down >= heap.length) break;
    if (down + 1 < heap.length && heap[down + 1][0] < heap[down][0]) down += 1;
    if (heap[down][0] >= item[0]) break;
    heap[i] = heap[down];
    i = down;
  }
  heap[i] = item;
  return top;
}
