// Keyboard, mouse and fingers on the map, and the start.

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
  let swiping = false;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    const reach = event.pointerType === "touch" ? 24 : 12;
    swiping = view.swipe > 0 && Math.abs(event.offsetX - view.swipe * view.wide) < reach;
    fingers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    moved = fingers.size > 1 ? 99 : 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const last = fingers.get(event.pointerId);
    if (!last) {
      const near = view.swipe > 0 && Math.abs(event.offsetX - view.swipe * view.wide) < 12;
      canvas.style.cursor = near ? "ew-resize" : "";
      return;
    }
    const was = fingers.size > 1 ? spread() : null;
    const dx = event.offsetX - last.x;
    const dy = event.offsetY - last.y;
    fingers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    moved += Math.abs(dx) + Math.abs(dy);
    if (swiping && !was) {
      swipeTo(event.offsetX / view.wide);
    } else if (was) {
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
  for (const map of maps) map.table = (await parsed(`t-${map.number}`)) || {};
  reground();
  buildMaps();
  buildSides();
  orderBySize();
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
