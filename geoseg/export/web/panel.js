// What is around the map: legend, tools, details, largest, report.

const by = (id) => document.getElementById(id);
const make = (tag, text, parent) => {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (parent) parent.append(node);
  return node;
};
const names = new Map(data.legend.map((c) => [c.id, c.name]));
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

function buildLegend() {
  const total = data.legend.reduce((sum, c) => sum + c.area, 0) || 1;
  for (const c of data.legend) {
    const label = make("label", undefined, by("legend"));
    const box = make("input", undefined, label);
    box.type = "checkbox";
    box.checked = true;
    const swatch = make("span", undefined, label);
    swatch.className = "swatch";
    swatch.style.background = c.colour;
    const name = make("bdi", c.name, label);
    name.className = "name";
    const share = number((100 * c.area) / total, 1);
    const text = data.metres ? `${ground(c.area)} · ${share} %` : `${share} %`;
    make("span", text, label).className = "amount";
    const bar = make("span", undefined, label);
    bar.className = "bar";
    bar.style.width = `${(100 * c.area) / total}%`;
    bar.style.background = c.colour;
    box.addEventListener("change", () => {
      if (box.checked) view.hidden.delete(c.id);
      else view.hidden.add(c.id);
      recolour();
    });
  }
}

const digits = { area_m2: 1, perimeter_m: 1, score: 3 };
const units = { area_m2: " m²", perimeter_m: " m" };

function tell(row) {
  view.selected = row;
  view.dirty = true;
  const list = by("details");
  list.replaceChildren();
  if (row < 0) {
    make("p", "Nothing there.", list);
    return;
  }
  const terms = make("dl", undefined, list);
  for (const [column, values] of Object.entries(table)) {
    if (column === "box" || values[row] === null) continue;
    make("dt", data.words[column] || column, terms);
    const value = values[row];
    const text = typeof value === "number" ? number(value, digits[column] ?? 3) : String(value);
    make("bdi", text + (units[column] || ""), make("dd", undefined, terms));
  }
}

async function tellAt(sx, sy) {
  tell(await rowAt(gridX(sx), gridY(sy)));
}

function buildLargest() {
  const list = by("largest");
  const wanted = by("find").value.trim().toLowerCase();
  const rows = table.category_id ? [...table.category_id.keys()] : [];
  const name = (row) => names.get(table.category_id[row]) ?? "";
  const size = table.area_m2 || table.pixels || [];
  const found = rows.filter((row) => name(row).toLowerCase().includes(wanted));
  found.sort((a, b) => size[b] - size[a]);
  list.replaceChildren();
  for (const row of found.slice(0, 25)) {
    const button = make("button", undefined, make("li", undefined, list));
    button.type = "button";
    make("bdi", name(row), button);
    const amount = table.area_m2 ? ground(size[row]) : `${number(size[row] || 0)} px`;
    make("span", amount, button).className = "amount";
    button.addEventListener("click", () => {
      fit(table.box.slice(row * 4, row * 4 + 4));
      tell(row);
    });
  }
  if (!found.length) make("li", "None.", list);
}

// How often values fall between marks; the numbers are in the text, too.
function chart(title, values, marks, say) {
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
  bars.setAttribute("aria-label", `${title}. ${words.join("; ")}`);
  for (const [place, count] of counts.entries()) {
    const bar = make("span", undefined, bars);
    bar.style.height = `${(100 * count) / most}%`;
    bar.title = words[place];
  }
  const ends = make("div", undefined, figure);
  ends.className = "ends";
  for (const end of [marks[0], marks.at(-1)]) make("span", say(end), ends);
}

function buildCharts() {
  const sizes = table.area_m2 || table.pixels || [];
  const unit = table.area_m2 ? " m²" : " px";
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
    const say = (value) => `${Number(value.toPrecision(2)).toLocaleString("en")}${unit}`;
    chart("Polygons by size", known, marks, say);
  }
  const tenths = Array.from({ length: 11 }, (_, i) => i / 10);
  chart("Polygons by confidence", table.score || [], tenths, (value) => number(value, 1));
  if (by("charts").children.length < 2) by("charts").remove();
}

function buildReport() {
  for (const [name, value] of Object.entries(data.report)) {
    make("dt", name, by("report"));
    make("bdi", value, make("dd", undefined, by("report")));
  }
}

function tools() {
  by("opacity").addEventListener("input", (event) => {
    view.opacity = event.target.value / 100;
    view.dirty = true;
  });
  by("swipe").addEventListener("input", (event) => {
    view.swipe = event.target.value / 100;
    view.dirty = true;
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

const keys = {
  ArrowLeft: () => move(view.x - 80 / view.k, view.y, view.k),
  ArrowRight: () => move(view.x + 80 / view.k, view.y, view.k),
  ArrowUp: () => move(view.x, view.y - 80 / view.k, view.k),
  ArrowDown: () => move(view.x, view.y + 80 / view.k, view.k),
  "+": () => zoomAt(1.5, view.wide / 2, view.high / 2),
  "=": () => zoomAt(1.5, view.wide / 2, view.high / 2),
  "-": () => zoomAt(1 / 1.5, view.wide / 2, view.high / 2),
  0: () => fit([0, 0, data.cols, data.rows]),
  Enter: () => tellAt(view.wide / 2, view.high / 2),
};

function hands() {
  const fingers = new Map();
  let moved = 0;
  const spread = () => {
    const [a, b] = [...fingers.values()];
    return [Math.hypot(a.x - b.x, a.y - b.y), (a.x + b.x) / 2, (a.y + b.y) / 2];
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    moved = fingers.size > 1 ? 99 : 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const last = fingers.get(event.pointerId);
    if (!last) return;
    const was = fingers.size > 1 ? spread() : null;
    const dx = event.offsetX - last.x;
    const dy = event.offsetY - last.y;
    fingers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    moved += Math.abs(dx) + Math.abs(dy);
    if (was) {
      const [size, x, y] = spread();
      zoomAt(size / was[0], x, y);
      move(view.x - (x - was[1]) / view.k, view.y - (y - was[2]) / view.k, view.k);
    } else move(view.x - dx / view.k, view.y - dy / view.k, view.k);
  });
  const up = (event) => {
    const last = fingers.get(event.pointerId);
    fingers.delete(event.pointerId);
    if (last && event.type === "pointerup" && moved < 5) tellAt(event.offsetX, event.offsetY);
  };
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomAt(2 ** (-event.deltaY / 300), event.offsetX, event.offsetY);
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const act = keys[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  });
}

async function start() {
  document.title = data.title;
  by("title").textContent = data.title;
  by("note").textContent = data.note;
  table = (await parsed("table")) || {};
  recolour();
  reground();
  buildLegend();
  buildLargest();
  buildCharts();
  buildReport();
  tools();
  hands();
  resize();
  fit([0, 0, data.cols, data.rows]);
  new ResizeObserver(resize).observe(canvas);
  requestAnimationFrame(frame);
  document.documentElement.dataset.ready = "1";
}
start();
