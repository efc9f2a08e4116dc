// What is around the map: legend, tools, details, largest, report.

const by = (id) => document.getElementById(id);
const make = (tag, text, parent) => {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (parent) parent.append(node);
  return node;
};
const number = (value, digits) =>
  value.toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: 0 });

// hectares, and square metres where that would be 0.0 ha
const ground = (m2) =>
  m2 >= 1000
    ? `${number(m2 / 1e4, m2 >= 1e5 ? 1 : 2)} ha`
    : `${number(m2, m2 >= 100 ? 0 : m2 >= 1 ? 1 : 3)} m²`;

let scaled = 0;
function scaleBar() {
  by("scale").hidden = !data.metres;
  if (!data.metres || scaled === view.k) return;
  scaled = view.k;
  const node = by("scale");
  const most = (120 / view.k) * data.metres;
  const power = 10 ** Math.floor(Math.log10(most));
  const length = [5, 2, 1].find((n) => n * power <= most) * power;
  node.style.width = `${(length / data.metres) * view.k}px`;
  node.textContent = length >= 1000 ? `${number(length / 1000, 1)} km` : `${number(length, 2)} m`;
}

const several = maps.length > 1;

// A class: its switch, colour, area and share.
function classRow(map, c, total, parent) {
  const label = make("label", undefined, parent);
  label.className = "class";
  const box = make("input", undefined, label);
  box.type = "checkbox";
  box.checked = true;
  const swatch = make("span", undefined, label);
  swatch.className = "swatch";
  swatch.style.background = c.colour;
  const name = make("bdi", undefined, label);
  name.className = "name";
  // long names break behind their underscores, not anywhere
  for (const part of c.name.split(/(?<=_)/)) name.append(part, document.createElement("wbr"));
  const percent = (100 * c.area) / total;
  const share = percent < 0.05 ? "< 0.1 %" : `${number(percent, 1)} %`;
  const text = map.areas ? `${ground(c.area)} · ${share}` : share;
  make("span", text, label).className = "amount";
  const bar = make("span", undefined, label);
  bar.className = "bar";
  bar.style.width = `${percent}%`;
  bar.style.background = c.colour;
  box.addEventListener("change", () => {
    if (box.checked) map.hidden.delete(c.id);
    else map.hidden.add(c.id);
    map.recolour();
  });
}

function slider(name, label, value, parent, act) {
  const line = make("div", undefined, parent);
  line.className = "slider";
  const text = make("span", name, line);
  text.setAttribute("aria-hidden", "true");
  const range = make("input", undefined, line);
  Object.assign(range, { type: "range", min: 0, max: 100, value });
  range.setAttribute("aria-label", label);
  range.addEventListener("input", () => {
    act(range.value / 100);
    view.dirty = true;
  });
}

// A map among several: its switch, its classes, its opacity.
function mapGroup(map, parent) {
  const group = make("section", undefined, parent);
  group.className = "map";
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", map.name);
  const head = make("label", undefined, group);
  head.className = "head";
  map.box = make("input", undefined, head);
  map.box.type = "checkbox";
  map.box.checked = true;
  make("bdi", map.name, head);
  map.box.addEventListener("change", () => show(map, map.box.checked));
  const list = make("details", undefined, group);
  list.open = maps.reduce((sum, one) => sum + one.legend.length, 0) <= 24 || map.number === 0;
  make("summary", `${number(map.legend.length)} classes`, list);
  slider("Opacity", `Opacity of ${map.name}`, 100, group, (value) => (map.opacity = value));
  return list;
}

function buildMaps() {
  by("h-legend").textContent = several ? "Maps" : "Classes";
  by("h-opacity").textContent = several ? "All maps" : "Opacity";
  by("opacity").setAttribute("aria-label", several ? "Opacity of all maps" : "Opacity");
  for (const map of maps) {
    const parent = several ? mapGroup(map, by("legend")) : by("legend");
    const total = map.legend.reduce((sum, c) => sum + c.area, 0) || 1;
    for (const c of map.legend) classRow(map, c, total, parent);
  }
}

function show(map, shown) {
  map.shown = shown;
  if (map.box) map.box.checked = shown;
  view.dirty = true;
  buildLargest();
}

// What the swipe parts: the scene or a map, and all maps that are shown or one of them.
function buildSides() {
  by("sides").hidden = !several;
  if (!several) return;
  view.sides = data.scene ? [-1, -1] : [0, 1];
  for (const [side, id] of ["left", "right"].entries()) {
    const select = by(id);
    if (side === 1 || data.scene) make("option", side ? "Maps shown" : "Scene", select).value = -1;
    for (const map of maps) make("option", map.name, select).value = map.number;
    select.value = view.sides[side];
    select.addEventListener("change", () => {
      view.sides[side] = Number(select.value);
      if (view.sides[side] >= 0) show(maps[view.sides[side]], true);
      swipeTo(view.swipe || 0.5);
    });
  }
}

function swipeTo(share) {
  view.swipe = clamp(share, 0, 1);
  by("swipe").value = Math.round(100 * view.swipe);
  view.dirty = true;
  // what lies where, written beside the divider
  by("tags").hidden = !several || view.swipe === 0;
  const [left, right] = by("tags").children;
  left.textContent = view.sides[0] < 0 ? "Scene" : maps[view.sides[0]].name;
  right.textContent = view.sides[1] < 0 ? "Maps shown" : maps[view.sides[1]].name;
  left.style.right = `calc(${100 - 100 * view.swipe}% + 8px)`;
  right.style.left = `calc(${100 * view.swipe}% + 8px)`;
  left.hidden = view.swipe < 0.15;
  right.hidden = view.swipe > 0.85;
}

// columns have any names, such as constructor: nothing is inherited here
const own = (object, name) => (Object.hasOwn(object, name) ? object[name] : undefined);
const digits = { area_m2: 1, perimeter_m: 1, score: 3 };

function told(value, places = 3) {
  if (typeof value === "boolean") return value ? "yes" : "no";
  return typeof value === "number" ? number(value, places) : String(value);
}

async function outline(found) {
  view.selected = found;
  view.outlines = [];
  view.dirty = true;
  for (const [map, row] of found) {
    for await (const part of map.outline(row)) {
      if (view.selected !== found) return;
      view.outlines.push(part);
      view.dirty = true;
    }
  }
}

// Polygons as [map, row], told below one another.
function tell(found) {
  outline(found);
  const list = by("details");
  list.replaceChildren();
  if (!found.length) make("p", "Nothing there.", list);
  for (const [map, row] of found) {
    if (several) make("bdi", map.name, make("h3", undefined, list));
    const terms = make("dl", undefined, list);
    for (const [column, values] of Object.entries(map.table)) {
      if (column === "box" || values[row] === null) continue;
      make("dt", own(map.words, column) ?? column, terms);
      make("bdi", told(values[row], own(digits, column)), make("dd", undefined, terms));
    }
  }
}

// Left of the swipe, where the scene is alone, the maps that lie right of it are asked.
async function tellAt(sx, sy) {
  const left = mapsOn(0);
  const asked = sx < view.swipe * view.wide && left.length ? left : mapsOn(1);
  const rows = await Promise.all(asked.map((map) => map.rowAt(gridX(sx), gridY(sy))));
  tell(asked.map((map, n) => [map, rows[n]]).filter(([, row]) => row >= 0));
}

const sizesOf = (map) => map.table.area_m2 || map.table.pixels || [];

function orderBySize() {
  for (const map of maps) {
    const size = sizesOf(map);
    map.order = map.table.category_id ? [...map.table.category_id.keys()] : [];
    map.order.sort((a, b) => size[b] - size[a]);
  }
}

const MOST = 25;

// The largest of the maps that are shown, by the classes' names.
function buildLargest() {
  const list = by("largest");
  const wanted = by("find").value.trim().toLowerCase();
  const found = [];
  for (const map of maps.filter((one) => one.shown)) {
    const fits = new Set();
    for (const [id, name] of map.names) if (name.toLowerCase().includes(wanted)) fits.add(id);
    let left = MOST;
    for (const row of map.order) {
      if (!fits.has(map.idOf(row))) continue;
      found.push([map, row]);
      left -= 1;
      if (!left) break;
    }
  }
  found.sort(([a, i], [b, j]) => sizesOf(b)[j] - sizesOf(a)[i]);
  list.replaceChildren();
  for (const [map, row] of found.slice(0, MOST)) {
    const button = make("button", undefined, make("li", undefined, list));
    button.type = "button";
    const words = make("span", undefined, button);
    words.className = "words";
    const object = own(map.table, "instance_id")?.[row];
    make("bdi", map.names.get(map.idOf(row)) + (object > 0 ? ` ${object}` : ""), words);
    if (several) make("bdi", map.name, words).className = "from";
    const size = sizesOf(map)[row];
    make("span", map.areas ? ground(size) : `${number(size || 0)} px`, button).className = "amount";
    button.addEventListener("click", () => {
      fit(map.table.box.slice(row * 4, row * 4 + 4));
      tell([[map, row]]);
    });
  }
  if (!found.length) make("li", "None.", list);
}

// How often values fall between marks; the numbers are in the text, too.
function chart(map, title, values, marks, say) {
  const counts = new Array(marks.length - 1).fill(0);
  for (const value of values) {
    if (value === null || value === undefined) continue;
    let place = 0;
    while (place < counts.length - 1 && value >= marks[place + 1]) place += 1;
    counts[place] += 1;
  }
  const most = Math.max(...counts);
  if (!most) return;
  const figure = make("figure", undefined, by("charts"));
  make("figcaption", title, figure);
  const bars = make("div", undefined, figure);
  bars.className = "bars";
  bars.setAttribute("role", "img");
  const words = counts.map((n, i) => `${say(marks[i])} to ${say(marks[i + 1])}: ${number(n)}`);
  const whose = several ? ` of ${map.name}` : "";
  bars.setAttribute("aria-label", `${title}${whose}. ${words.join("; ")}`);
  for (const [place, count] of counts.entries()) {
    const bar = make("span", undefined, bars);
    bar.style.height = `${(100 * count) / most}%`;
    bar.title = words[place];
  }
  const ends = make("div", undefined, figure);
  ends.className = "ends";
  for (const end of [marks[0], marks.at(-1)]) make("span", say(end), ends);
}

function chartsOf(map) {
  const sizes = sizesOf(map);
  const known = sizes.filter((value) => value > 0);
  if (known.length) {
    const decade = (value) => Math.log10(value);
    let low = Infinity;
    let high = -Infinity;
    for (const value of known) {
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
    const first = Math.floor(2 * decade(low));
    const last = Math.max(Math.floor(2 * decade(high)) + 1, first + 1);
    const marks = Array.from({ length: last - first + 1 }, (_, i) => 10 ** ((first + i) / 2));
    const say = (value) => {
      const round = Number(value.toPrecision(2));
      return map.areas ? ground(round) : `${number(round, 0)} px`;
    };
    chart(map, "Polygons by size", known, marks, say);
  }
  const tenths = Array.from({ length: 11 }, (_, i) => i / 10);
  chart(map, "Polygons by confidence", map.table.score || [], tenths, (value) => number(value, 1));
}

function buildCharts() {
  for (const map of maps) {
    const before = by("charts").children.length;
    const head = several ? make("h3", undefined, by("charts")) : null;
    if (head) make("bdi", map.name, head);
    chartsOf(map);
    if (head && by("charts").children.length === before + 1) head.remove();
  }
  if (by("charts").children.length < 2) by("charts").remove();
}

// Options and the like are JSON: their names and values in words.
function plain(text) {
  if (!/^[{[]/.test(text)) return text;
  try {
    const found = Object.entries(JSON.parse(text)).filter(([, value]) => value !== null);
    const words = (value) => (typeof value === "object" ? JSON.stringify(value) : told(value));
    return found.map(([name, value]) => `${name.replaceAll("_", " ")}: ${words(value)}`).join(", ");
  } catch {
    return text;
  }
}

function buildReport() {
  for (const map of maps) {
    if (several) make("bdi", map.name, make("h3", undefined, by("report")));
    const terms = make("dl", undefined, by("report"));
    for (const [name, value] of Object.entries(map.report)) {
      make("dt", name.replaceAll("_", " "), terms);
      make("bdi", plain(value), make("dd", undefined, terms));
    }
  }
}

function tools() {
  by("opacity").addEventListener("input", (event) => {
    view.opacity = event.target.value / 100;
    view.dirty = true;
  });
  by("swipe").addEventListener("input", (event) => {
    swipeTo(event.target.value / 100);
  });
  by("in").addEventListener("click", () => zoomAt(2, view.wide / 2, view.high / 2));
  by("out").addEventListener("click", () => zoomAt(0.5, view.wide / 2, view.high / 2));
  by("all").addEventListener("click", () => fit([0, 0, data.cols, data.rows]));
  by("find").addEventListener("input", buildLargest);
  by("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = getComputedStyle(root).getPropertyValue("--dark").trim() === "1";
    root.dataset.theme = dark ? "light" : "dark";
    reground();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", reground);
}
