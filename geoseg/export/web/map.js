"use strict";
// The map: tiles of the scene and of classes, cells of polygons, drawn on one canvas.
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
  opacity: 0.6, swipe: 0, moved: 0, ground: "#888", hidden: new Set(), colours: 0, selected: -1,
};
const colour = new Uint8Array(256 * 4);
const rgb = new Map();
for (const c of data.legend) {
  const value = parseInt(c.colour.slice(1), 16);
  rgb.set(c.id, [value >> 16, (value >> 8) & 255, value & 255]);
}

function reground() {
  view.ground = getComputedStyle(document.documentElement).getPropertyValue("--ground");
  view.dirty = true;
}

function recolour() {
  colour.fill(0);
  for (const [id, c] of rgb) if (!view.hidden.has(id)) colour.set([...c, 255], id * 4);
  view.colours += 1;
  view.dirty = true;
}

const scenes = new Cache(async (key) => {
  const bytes = await piece(key);
  return bytes ? createImageBitmap(new Blob([bytes], { type: "image/jpeg" })) : { width: 0 };
}, 160);

const classes = new Cache(async (key) => {
  const bytes = await piece(key);
  if (!bytes) return { ids: null };
  const canvas = new OffscreenCanvas(TILE, TILE);
  return { ids: await inflate(bytes), canvas, context: canvas.getContext("2d"), colours: -1 };
}, 120);

const cells = new Cache(async (key) => {
  const found = (await parsed(key)) || { i: [], p: [] };
  const paths = new Map();
  found.i.forEach((row, n) => {
    const id = table.category_id ? table.category_id[row] : 0;
    if (!paths.has(id)) paths.set(id, new Path2D());
    trace(paths.get(id), found.p[n]);
  });
  return { rows: found.i, shapes: found.p, paths, canvas: null, drawn: "" };
}, 120);

let table = {};

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

const canvas = document.getElementById("map");
const pen = canvas.getContext("2d", { alpha: false });
const screenX = (x) => (x - view.x) * view.k + view.wide / 2;
const screenY = (y) => (y - view.y) * view.k + view.high / 2;
const gridX = (sx) => (sx - view.wide / 2) / view.k + view.x;
const gridY = (sy) => (sy - view.high / 2) / view.k + view.y;
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function visible(level, each) {
  const size = TILE * 2 ** level;
  const last = (n) => Math.ceil(n / size) - 1;
  const r0 = clamp(Math.floor(gridY(0) / size), 0, last(data.rows));
  const r1 = clamp(Math.floor(gridY(view.high) / size), 0, last(data.rows));
  const c0 = clamp(Math.floor(gridX(0) / size), 0, last(data.cols));
  const c1 = clamp(Math.floor(gridX(view.wide) / size), 0, last(data.cols));
  for (let r = r0; r <= r1; r += 1) for (let c = c0; c <= c1; c += 1) each(r, c, size);
}

// edges are rounded to whole pixels of the screen: neighbours neither overlap nor part
function put(image, x, y, wide, high) {
  const left = Math.round(screenX(x) * view.dpr);
  const top = Math.round(screenY(y) * view.dpr);
  const right = Math.round(screenX(x + wide) * view.dpr);
  const below = Math.round(screenY(y + high) * view.dpr);
  pen.drawImage(image, left, top, right - left, below - top);
}

function within(r, c, size, draw) {
  const scale = view.k * view.dpr;
  pen.save();
  pen.setTransform(scale, 0, 0, scale, screenX(c * size) * view.dpr, screenY(r * size) * view.dpr);
  pen.beginPath();
  pen.rect(0, 0, size, size);
  pen.clip();
  draw();
  pen.restore();
}

function drawScene() {
  if (!data.scene) return;
  const best = clamp(Math.round(-Math.log2(view.k * view.dpr)), data.scene.finest, data.levels);
  let whole = true;
  visible(best, (r, c) => {
    whole = Boolean(scenes.get(`s-${best}-${r}-${c}`)) && whole;
  });
  // coarser tiles only until the best are there
  const levels = whole ? [best] : [data.levels, Math.min(best + 1, data.levels), best];
  for (const level of new Set(levels)) {
    visible(level, (r, c, size) => {
      const image = scenes.get(`s-${level}-${r}-${c}`);
      // tiles at the edge are smaller than the others
      if (!image || !image.width) return;
      const wide = image.width * 2 ** level;
      const high = image.height * 2 ** level;
      put(image, c * size, r * size, Math.min(wide, data.cols - c * size), Math.min(high, data.rows - r * size));
    });
  }
}

function drawClasses(level) {
  visible(level, (r, c, size) => {
    const tile = classes.get(`c-${level}-${r}-${c}`);
    if (!tile || !tile.ids) return;
    if (tile.colours !== view.colours) {
      const pixels = new ImageData(TILE, TILE);
      const words = new Uint32Array(pixels.data.buffer);
      const palette = new Uint32Array(colour.buffer);
      for (let n = 0; n < words.length; n += 1) words[n] = palette[tile.ids[n]];
      tile.context.putImageData(pixels, 0, 0);
      tile.colours = view.colours;
    }
    put(tile.canvas, c * size, r * size, size, size);
  });
}

function paint(context, cell, width) {
  for (const [id, path] of cell.paths) {
    if (view.hidden.has(id) || !rgb.has(id)) continue;
    const c = rgb.get(id);
    context.fillStyle = `rgb(${c})`;
    context.fill(path, "evenodd");
    context.strokeStyle = `rgb(${c.map((v) => Math.round(v * 0.55))})`;
    context.lineWidth = width;
    context.stroke(path);
  }
}

let budget = 0;
function drawCells() {
  const scale = view.k * view.dpr;
  visible(0, (r, c, size) => {
    const cell = cells.get(`v-${r}-${c}`);
    if (!cell || !cell.rows.length) return;
    if (scale > 2) {
      within(r, c, size, () => paint(pen, cell, 1 / view.k));
      return;
    }
    const fine = 2 ** clamp(Math.ceil(Math.log2(scale)), -1, 1);
    const drawn = `${fine}:${view.colours}`;
    if (cell.drawn !== drawn && performance.now() < budget) {
      cell.canvas = new OffscreenCanvas(TILE * fine, TILE * fine);
      const context = cell.canvas.getContext("2d");
      context.scale(fine, fine);
      paint(context, cell, 0.9 / fine);
      cell.drawn = drawn;
    } else if (cell.drawn !== drawn) view.dirty = true;
    if (cell.canvas) put(cell.canvas, c * size, r * size, size, size);
  });
}

function drawSelected() {
  if (view.selected < 0) return;
  visible(0, (r, c, size) => {
    const cell = cells.items.get(`v-${r}-${c}`);
    const n = cell ? cell.rows.indexOf(view.selected) : -1;
    if (n < 0) return;
    const path = new Path2D();
    trace(path, cell.shapes[n]);
    // pieces end beyond their cell: within it their cuts stay unseen
    within(r, c, size, () => {
      for (const [ink, width] of [["#000", 5], ["#fff", 2.5]]) {
        pen.strokeStyle = ink;
        pen.lineWidth = width / view.k;
        pen.stroke(path);
      }
    });
  });
}

function draw(moving) {
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.fillStyle = view.ground;
  pen.fillRect(0, 0, canvas.width, canvas.height);
  // smooth pictures cost several times as much: they wait until the map stands still
  pen.imageSmoothingEnabled = !moving && view.k * view.dpr < 2;
  drawScene();
  const level = clamp(Math.round(-Math.log2(view.k * view.dpr)), 0, data.levels);
  const from = Math.round(view.swipe * canvas.width);
  pen.save();
  pen.beginPath();
  pen.rect(from, 0, canvas.width - from, canvas.height);
  pen.clip();
  pen.globalAlpha = view.opacity;
  if (level < 1) drawCells();
  else drawClasses(level);
  pen.restore();
  drawSelected();
  if (from > 0) {
    pen.fillStyle = "#fff";
    pen.fillRect(from - 1, 0, 2, canvas.height);
  }
}

function resize() {
  view.dpr = Math.min(window.devicePixelRatio || 1, 2);
  view.wide = canvas.clientWidth;
  view.high = canvas.clientHeight;
  canvas.width = Math.max(1, Math.round(view.wide * view.dpr));
  canvas.height = Math.max(1, Math.round(view.high * view.dpr));
  view.dirty = true;
}

const limits = () => {
  const least = Math.min(view.wide / data.cols, view.high / data.rows, 1) * 0.8;
  return [least, Math.max(32, least * 2)];
};

function move(x, y, k) {
  view.k = clamp(k, ...limits());
  view.x = clamp(x, 0, data.cols);
  view.y = clamp(y, 0, data.rows);
  view.moved = performance.now();
  view.dirty = true;
}

function fit(box) {
  const [x0, y0, x1, y1] = box;
  const k = Math.min(view.wide / Math.max(x1 - x0, 1), view.high / Math.max(y1 - y0, 1)) * 0.9;
  move((x0 + x1) / 2, (y0 + y1) / 2, k);
}

function zoomAt(factor, sx, sy) {
  const x = gridX(sx);
  const y = gridY(sy);
  const k = clamp(view.k * factor, ...limits());
  move(x - (sx - view.wide / 2) / k, y - (sy - view.high / 2) / k, k);
}

async function rowAt(x, y) {
  if (x < 0 || y < 0 || x >= data.cols || y >= data.rows) return -1;
  const r = Math.floor(y / TILE);
  const c = Math.floor(x / TILE);
  const cell = (await cells.want(`v-${r}-${c}`)) || cells.items.get(`v-${r}-${c}`);
  if (!cell) return -1;
  const px = x - c * TILE;
  const py = y - r * TILE;
  return cell.rows.find((row, n) => inside(cell.shapes[n], px, py)) ?? -1;
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

const frames = [];
let before = 0;
function frame(now) {
  frames.push(now - before);
  before = now;
  if (frames.length > 2000) frames.shift();
  if (view.dirty) {
    const moving = now - view.moved < 150;
    view.dirty = moving;
    budget = performance.now() + 8;
    draw(moving);
    scaleBar();
  }
  requestAnimationFrame(frame);
}
