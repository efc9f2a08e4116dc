"use strict";
// What is shown: the scene's tiles, and of each map tiles of classes, cells of polygons, a table.
// Coordinates are pixels of the grid; k is CSS pixels per pixel of the grid.

const TILE = 512;
const data = JSON.parse(document.getElementById("facts").textContent);

function bytesOf(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const characters = atob(text);
  const bytes = new Uint8Array(characters.length);
  for (let n = 0; n < bytes.length; n += 1) bytes[n] = characters.charCodeAt(n);
  return bytes;
}

async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function piece(key) {
  if (data.served) {
    const answer = await fetch("tiles/" + key);
    return answer.status === 200 ? new Uint8Array(await answer.arrayBuffer()) : null;
  }
  const node = document.getElementById(key);
  return node ? bytesOf(node.textContent) : null;
}

async function parsed(key) {
  const bytes = await piece(key);
  return bytes && JSON.parse(new TextDecoder().decode(await inflate(bytes)));
}

// A cache that loads what is asked for, a few at a time, and forgets what was not used lately.
class Cache {
  constructor(load, room) {
    this.load = load;
    this.room = room;
    this.items = new Map();
    this.waiting = 0;
  }
  get(key) {
    const item = this.items.get(key);
    if (item !== undefined) {
      this.items.delete(key);
      this.items.set(key, item);
      return item;
    }
    if (this.waiting < 4) this.want(key);
    else view.dirty = true;
    return null;
  }
  async want(key) {
    const known = this.items.get(key);
    if (known) return known;
    this.waiting += 1;
    this.items.set(key, null);
    try {
      const value = await this.load(key);
      this.items.set(key, value);
      while (this.items.size > this.room) this.items.delete(this.items.keys().next().value);
      return value;
    } finally {
      this.waiting -= 1;
      view.dirty = true;
    }
  }
}

const view = {
  x: data.cols / 2, y: data.rows / 2, k: 1, wide: 1, high: 1, dpr: 1, dirty: true,
  opacity: 0.6, swipe: 0, sides: [-1, -1], moved: 0, ground: "#888", selected: [], outlines: [],
};

const scenes = new Cache(async (key) => {
  const bytes = await piece(key);
  return bytes ? createImageBitmap(new Blob([bytes], { type: "image/jpeg" })) : { width: 0 };
}, 160);

async function classTile(key) {
  const bytes = await piece(key);
  if (!bytes) return { ids: null };
  const canvas = new OffscreenCanvas(TILE, TILE);
  return { ids: await inflate(bytes), canvas, context: canvas.getContext("2d"), colours: -1 };
}

async function rowsOf(key) {
  const found = await parsed(key);
  return found ? [found.i, found.p] : [[], []];
}

async function cellOf(key, table) {
  const [rows, shapes] = await rowsOf(key);
  const paths = new Map();
  rows.forEach((row, n) => {
    const id = table.category_id ? table.category_id[row] : 0;
    if (!paths.has(id)) paths.set(id, new Path2D());
    trace(paths.get(id), shapes[n]);
  });
  return { rows, shapes, paths, canvas: null, drawn: "" };
}

// One map of the page; the first lies on top.
class Layer {
  constructor(facts, number) {
    Object.assign(this, facts);
    this.number = number;
    this.shown = true;
    this.opacity = 1;
    this.hidden = new Set();
    this.table = {};
    this.rgb = new Map();
    for (const c of facts.legend) {
      const value = parseInt(c.colour.slice(1), 16);
      this.rgb.set(c.id, [value >> 16, (value >> 8) & 255, value & 255]);
    }
    this.names = new Map(facts.legend.map((c) => [c.id, c.name]));
    this.palette = new Uint8Array(256 * 4);
    this.colours = 0;
    const room = Math.max(30, Math.round(120 / data.maps.length));
    this.classes = new Cache(classTile, room);
    this.cells = new Cache((key) => cellOf(key, this.table), room);
    this.recolour();
  }
  recolour() {
    this.palette.fill(0);
    for (const [id, c] of this.rgb) if (!this.hidden.has(id)) this.palette.set([...c, 255], id * 4);
    this.colours += 1;
    view.dirty = true;
  }
  cellKey(r, c) {
    return `v-${this.number}-${r}-${c}`;
  }
  idOf(row) {
    return this.table.category_id ? this.table.category_id[row] : 0;
  }
  // the outline of a row, cell by cell: of each cell its corner and a path
  async *outline(row) {
    const [left, top, right, below] = this.table.box.slice(row * 4, row * 4 + 4);
    const [wide, high] = [Math.ceil(data.cols / TILE), Math.ceil(data.rows / TILE)];
    const place = (value, most) => clamp(Math.floor(value / TILE), 0, most - 1);
    for (let r = place(top, high); r <= place(below, high); r += 1) {
      for (let c = place(left, wide); c <= place(right, wide); c += 1) {
        const key = this.cellKey(r, c);
        const near = this.cells.items.get(key);
        const [rows, shapes] = near ? [near.rows, near.shapes] : await rowsOf(key);
        const n = rows.indexOf(row);
        if (n >= 0) yield { x: c * TILE, y: r * TILE, path: border(shapes[n]) };
      }
    }
  }
  // the row of the table whose polygon holds a point, among the classes that are shown
  async rowAt(x, y) {
    if (x < 0 || y < 0 || x >= data.cols || y >= data.rows) return -1;
    const r = Math.floor(y / TILE);
    const c = Math.floor(x / TILE);
    const key = this.cellKey(r, c);
    const cell = (await this.cells.want(key)) || this.cells.items.get(key);
    if (!cell) return -1;
    const holds = (n) => inside(cell.shapes[n], x - c * TILE, y - r * TILE);
    return cell.rows.find((row, n) => !this.hidden.has(this.idOf(row)) && holds(n)) ?? -1;
  }
}

const maps = data.maps.map((facts, number) => new Layer(facts, number));
const caches = [scenes, ...maps.flatMap((map) => [map.classes, map.cells])];

// The maps on one side of the swipe (0: left of it, 1: right), the one on top first.
function mapsOn(side) {
  const chosen = view.swipe > 0 ? view.sides[side] : -1;
  const shown = maps.filter((map) => map.shown);
  if (chosen >= 0) return shown.filter((map) => map.number === chosen);
  return side === 1 ? shown : [];
}

// rings are lists of differences in units of a quarter of a pixel
function eachPoint(ring, visit) {
  let x = 0;
  let y = 0;
  for (let n = 0; n < ring.length; n += 2) {
    x += ring[n];
    y += ring[n + 1];
    visit(x / 4, y / 4, n === 0);
  }
}

function trace(path, rings) {
  for (const ring of rings) {
    eachPoint(ring, (x, y, first) => (first ? path.moveTo(x, y) : path.lineTo(x, y)));
    path.closePath();
  }
}

// The rings without the edges along which a polygon was cut, four pixels beyond its cell.
function border(rings) {
  const path = new Path2D();
  const cut = (a, b) => a === b && (a === -4 || a === TILE + 4);
  for (const ring of rings) {
    const points = [];
    eachPoint(ring, (x, y) => points.push([x, y]));
    let [x0, y0] = points.at(-1);
    path.moveTo(x0, y0);
    for (const [x, y] of points) {
      if (cut(x0, x) || cut(y0, y)) path.moveTo(x, y);
      else path.lineTo(x, y);
      [x0, y0] = [x, y];
    }
  }
  return path;
}

function inside(rings, px, py) {
  let odd = false;
  for (const ring of rings) {
    const points = [];
    eachPoint(ring, (x, y) => points.push([x, y]));
    for (let i = 0, j = points.length - 1; i < points.length; j = i, i += 1) {
      const [xi, yi] = points[i];
      const [xj, yj] = points[j];
      if (yi > py !== yj > py && px < ((xj - xi) * (py - yi)) / (yj - yi) + xi) odd = !odd;
    }
  }
  return odd;
}
