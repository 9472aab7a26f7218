// A molecule of balls and sticks on a canvas: parallel projection, painted from back to front.

const RADII = { H: 0.31, B: 0.84, C: 0.76, N: 0.71, O: 0.66, F: 0.57, Si: 1.11, P: 1.07, S: 1.05, Cl: 1.02, Br: 1.2, I: 1.39 };
const COLOURS = {
  H: [235, 235, 235], B: [240, 170, 150], C: [95, 95, 95], N: [50, 90, 220], O: [215, 45, 35], F: [120, 190, 80],
  Si: [200, 170, 120], P: [235, 140, 40], S: [215, 185, 40], Cl: [60, 180, 60], Br: [150, 60, 40], I: [120, 40, 150],
};
const radius = (symbol) => RADII[symbol] ?? 1.2;
const rgb = (colour) => `rgb(${colour.map(Math.round).join(" ")})`;

// Blue below the middle, white there, red above; t from -1 to 1.
export function shade(t) {
  const end = t < 0 ? [40, 90, 200] : [205, 50, 40];
  return [245, 245, 245].map((white, i) => white + Math.min(1, Math.abs(t)) * (end[i] - white));
}

// Pairs of atoms that are as near as bonded ones are.
export function bonds(symbols, positions) {
  const found = [];
  for (let i = 0; i < symbols.length; i++) {
    for (let j = i + 1; j < symbols.length; j++) {
      const limit = 1.25 * (radius(symbols[i]) + radius(symbols[j]));
      const d = Math.hypot(...positions[i].map((x, axis) => x - positions[j][axis]));
      if (d > 0.1 && d < limit) found.push([i, j]);
    }
  }
  return found;
}

function times(a, b) {
  return a.map((row) => [0, 1, 2].map((k) => row.reduce((sum, x, i) => sum + x * b[i][k], 0)));
}

export class Viewer {
  constructor(canvas, pointed) {
    this.canvas = canvas;
    this.pointed = pointed;
    this.atoms = [];
    this.turn = [[1, 0, 0], [0, 1, 0], [0, 0, 1]];
    this.zoom = 1;
    canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); this.held = true; });
    canvas.addEventListener("pointerup", () => { this.held = false; });
    canvas.addEventListener("pointermove", (event) => {
      if (this.held) this.rotate(event.movementX / 100, event.movementY / 100);
      else this.pointed(this.under(event));
    });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom *= Math.exp(-event.deltaY / 800);
      this.draw();
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-0.2, 0], ArrowRight: [0.2, 0], ArrowUp: [0, -0.2], ArrowDown: [0, 0.2] }[event.key];
      if (!step) return;
      event.preventDefault();
      this.rotate(...step);
    });
  }

  // symbols and positions (Å) of the atoms; null for none
  show(geometry) {
    const positions = geometry?.positions ?? [];
    const middle = [0, 1, 2].map((axis) => positions.reduce((sum, p) => sum + p[axis], 0) / (positions.length || 1));
    this.symbols = geometry?.symbols ?? [];
    this.positions = positions.map((p) => p.map((x, axis) => x - middle[axis]));
    this.bonds = bonds(this.symbols, this.positions);
    this.size = Math.max(1.5, ...this.positions.map((p) => Math.hypot(...p))) + 1;
    this.zoom = 1;
    this.colour(null);
  }

  // a number of each atom from -1 to 1, or null for the colours of the elements
  colour(values) {
    this.values = values;
    this.draw();
  }

  rotate(x, y) {
    const about_y = [[Math.cos(x), 0, Math.sin(x)], [0, 1, 0], [-Math.sin(x), 0, Math.cos(x)]];
    const about_x = [[1, 0, 0], [0, Math.cos(y), -Math.sin(y)], [0, Math.sin(y), Math.cos(y)]];
    this.turn = times(times(about_x, about_y), this.turn);
    this.draw();
  }

  draw() {
    const { width, height } = this.canvas;
    const pen = this.canvas.getContext("2d");
    const scale = this.zoom * Math.min(width, height) / (2 * this.size);
    pen.clearRect(0, 0, width, height);
    this.atoms = this.positions.map((p, index) => {
      const [x, y, z] = this.turn.map((row) => row[0] * p[0] + row[1] * p[1] + row[2] * p[2]);
      const colour = this.values ? shade(this.values[index] ?? 0) : COLOURS[this.symbols[index]] ?? [190, 110, 190];
      const r = scale * (0.22 + 0.28 * radius(this.symbols[index]));
      return { index, x: width / 2 + scale * x, y: height / 2 - scale * y, z: scale * z, r, colour };
    });
    const parts = this.atoms.map((atom) => ({ z: atom.z, paint: () => this.ball(pen, atom) }));
    for (const [i, j] of this.bonds) {
      const [a, b] = [this.atoms[i], this.atoms[j]];
      parts.push({ z: (a.z + b.z) / 2, paint: () => this.stick(pen, a, b, 0.16 * scale) });
    }
    for (const part of parts.sort((a, b) => a.z - b.z)) part.paint();
  }

  ball(pen, { x, y, r, colour }) {
    const light = pen.createRadialGradient(x - 0.35 * r, y - 0.35 * r, 0.1 * r, x, y, r);
    light.addColorStop(0, rgb(colour.map((c) => c + 0.6 * (255 - c))));
    light.addColorStop(0.5, rgb(colour));
    light.addColorStop(1, rgb(colour.map((c) => 0.6 * c)));
    pen.fillStyle = light;
    pen.beginPath();
    pen.arc(x, y, r, 0, 2 * Math.PI);
    pen.fill();
  }

  // from the surface of one ball to that of the other
  stick(pen, a, b, thick) {
    const length = Math.hypot(b.x - a.x, b.y - a.y, b.z - a.z);
    const [start, end] = [0.9 * a.r / length, 1 - 0.9 * b.r / length];
    pen.lineWidth = thick;
    pen.strokeStyle = "rgb(140 140 140)";
    pen.beginPath();
    pen.moveTo(a.x + start * (b.x - a.x), a.y + start * (b.y - a.y));
    pen.lineTo(a.x + end * (b.x - a.x), a.y + end * (b.y - a.y));
    pen.stroke();
  }

  // index of the foremost atom under the pointer, or -1
  under(event) {
    const box = this.canvas.getBoundingClientRect();
    const x = (event.clientX - box.left) * this.canvas.width / box.width;
    const y = (event.clientY - box.top) * this.canvas.height / box.height;
    const hit = this.atoms.filter((atom) => Math.hypot(atom.x - x, atom.y - y) < atom.r).sort((a, b) => b.z - a.z);
    return hit.length ? hit[0].index : -1;
  }
}
