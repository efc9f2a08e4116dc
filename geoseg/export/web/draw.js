// The drawing: scene, maps, what is selected, on one canvas.

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
function put(pen, image, x, y, wide, high) {
  const left = Math.round(screenX(x) * view.dpr);
  const top = Math.round(screenY(y) * view.dpr);
  const right = Math.round(screenX(x + wide) * view.dpr);
  const below = Math.round(screenY(y + high) * view.dpr);
  pen.drawImage(image, left, top, right - left, below - top);
}

function within(pen, r, c, size, draw) {
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
      put(pen, image, c * size, r * size, Math.min(wide, data.cols - c * size), Math.min(high, data.rows - r * size));
    });
  }
}

function drawClasses(pen, map, level) {
  visible(level, (r, c, size) => {
    const tile = map.classes.get(`c-${map.number}-${level}-${r}-${c}`);
    if (!tile || !tile.ids) return;
    if (tile.colours !== map.colours) {
      const pixels = new ImageData(TILE, TILE);
      const words = new Uint32Array(pixels.data.buffer);
      const palette = new Uint32Array(map.palette.buffer);
      for (let n = 0; n < words.length; n += 1) words[n] = palette[tile.ids[n]];
      tile.context.putImageData(pixels, 0, 0);
      tile.colours = map.colours;
    }
    put(pen, tile.canvas, c * size, r * size, size, size);
  });
}

function paint(context, map, cell, width) {
  for (const [id, path] of cell.paths) {
    if (map.hidden.has(id) || !map.rgb.has(id)) continue;
    const c = map.rgb.get(id);
    context.fillStyle = `rgb(${c})`;
    context.fill(path, "evenodd");
    context.strokeStyle = `rgb(${c.map((v) => Math.round(v * 0.55))})`;
    context.lineWidth = width;
    context.stroke(path);
  }
}

let budget = 0;
function drawCells(pen, map) {
  const scale = view.k * view.dpr;
  visible(0, (r, c, size) => {
    const cell = map.cells.get(map.cellKey(r, c));
    if (!cell || !cell.rows.length) return;
    if (scale > 2) {
      within(pen, r, c, size, () => paint(pen, map, cell, 1 / view.k));
      return;
    }
    const fine = 2 ** clamp(Math.ceil(Math.log2(scale)), -1, 1);
    const drawn = `${fine}:${map.colours}`;
    if (cell.drawn !== drawn && performance.now() < budget) {
      cell.canvas = new OffscreenCanvas(TILE * fine, TILE * fine);
      const context = cell.canvas.getContext("2d");
      context.scale(fine, fine);
      paint(context, map, cell, 0.9 / fine);
      cell.drawn = drawn;
    } else if (cell.drawn !== drawn) view.dirty = true;
    if (cell.canvas) put(pen, cell.canvas, c * size, r * size, size, size);
  });
}

function drawMap(pen, map, level) {
  if (level < 1) drawCells(pen, map);
  else drawClasses(pen, map, level);
}

// Several maps cover one another before they are laid over the scene, as layers do in a GIS:
// colours that shine through one another would be those of no class.
let stage = null;
function drawSide(side, from, to, level, smooth) {
  const found = mapsOn(side);
  if (!found.length || to <= from) return;
  pen.save();
  pen.beginPath();
  pen.rect(from, 0, to - from, canvas.height);
  pen.clip();
  if (found.length === 1) {
    pen.globalAlpha = view.opacity * found[0].opacity;
    drawMap(pen, found[0], level);
  } else {
    stage ??= new OffscreenCanvas(1, 1).getContext("2d");
    stage.canvas.width = canvas.width; // empties it, too
    stage.canvas.height = canvas.height;
    stage.imageSmoothingEnabled = smooth;
    for (const map of found.toReversed()) {
      stage.globalAlpha = map.opacity;
      drawMap(stage, map, level);
    }
    pen.globalAlpha = view.opacity;
    pen.drawImage(stage.canvas, 0, 0);
  }
  pen.restore();
}

function drawSelected() {
  const scale = view.k * view.dpr;
  for (const { x, y, path } of view.outlines) {
    pen.save();
    pen.setTransform(scale, 0, 0, scale, screenX(x) * view.dpr, screenY(y) * view.dpr);
    for (const [ink, width] of [["#000", 5], ["#fff", 2.5]]) {
      pen.strokeStyle = ink;
      pen.lineWidth = width / view.k;
      pen.stroke(path);
    }
    pen.restore();
  }
}

function drawSwipe(from) {
  if (from <= 0) return;
  const grip = 13 * view.dpr;
  pen.fillStyle = "#fff";
  pen.strokeStyle = "#000";
  pen.lineWidth = view.dpr;
  pen.fillRect(from - view.dpr, 0, 2 * view.dpr, canvas.height);
  pen.beginPath();
  pen.arc(from, canvas.height / 2, grip, 0, 7);
  pen.fill();
  pen.stroke();
  pen.fillStyle = "#000";
  for (const way of [-1, 1]) {
    pen.beginPath();
    pen.moveTo(from + way * grip * 0.75, canvas.height / 2);
    pen.lineTo(from + way * grip * 0.25, canvas.height / 2 - grip * 0.4);
    pen.lineTo(from + way * grip * 0.25, canvas.height / 2 + grip * 0.4);
    pen.fill();
  }
}

function draw(moving) {
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.fillStyle = view.ground;
  pen.fillRect(0, 0, canvas.width, canvas.height);
  // smooth pictures cost several times as much: they wait until the map stands still
  const smooth = !moving && view.k * view.dpr < 2;
  pen.imageSmoothingEnabled = smooth;
  drawScene();
  const level = clamp(Math.round(-Math.log2(view.k * view.dpr)), 0, data.levels);
  const from = Math.round(view.swipe * canvas.width);
  drawSide(0, 0, from, level, smooth);
  drawSide(1, from, canvas.width, level, smooth);
  drawSelected();
  drawSwipe(from);
}

function reground() {
  view.ground = getComputedStyle(document.documentElement).getPropertyValue("--ground");
  view.dirty = true;
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
