// The map: the same items twice, by content and by behaviour; what is chosen on one is lit on both.
"use strict";
(async () => {
  const maps = document.getElementById("maps");
  if (!maps) return;
  const answer = await fetch("/studio/map/points");
  if (!answer.ok) return;
  const bytes = await answer.arrayBuffer(), n = bytes.byteLength / 11;
  const places = new Uint16Array(bytes, 0, 4 * n), category = new Uint16Array(bytes, 8 * n, n), marks = new Uint8Array(bytes, 10 * n, n);
  const colours = JSON.parse(maps.dataset.colours), tools = document.getElementById("map-tools"), at = document.getElementById("map-at");
  const chosenList = document.getElementById("chosen"), only = document.getElementById("map-only");
  const sheets = [...maps.querySelectorAll("canvas")], lit = new Uint8Array(n), cards = new Map();
  const colourOf = (i) => (category[i] && colours[category[i] - 1] !== undefined ? colours[category[i] - 1] : 10);
  const tint = Uint8Array.from({ length: n }, (_, i) => colourOf(i));
  const order = Uint32Array.from({ length: n }, (_, i) => i).sort((a, b) => tint[b] - tint[a]);
  let look = { k: 1, x: 0, y: 0 }, chosen = 0, over = -1, brush = null, waiting = 0, palette = [], ink = "";
  tools.hidden = false;

  function paint() {
    const style = getComputedStyle(document.documentElement);
    ink = style.getPropertyValue("--ink");
    palette = Array.from({ length: 11 }, (_, c) => { const dot = document.querySelector(`#legend .c${c}`); return dot ? getComputedStyle(dot).fill : "#8b939c"; });
    later();
  }
  const later = () => { waiting ||= requestAnimationFrame(() => { waiting = 0; sheets.forEach(draw); }); };
  const moving = () => tools.querySelector("[name=drag]:checked").value === "move";
  // Where the numbers of a side lie, how they are scaled, and what is added: 0 … 65,535 in a square with a margin of 3 %.
  const view = (canvas) => { const w = canvas.clientWidth, s = w * look.k; return { side: 2 * Number(canvas.dataset.side), s: 0.94 / 65535 * s, x0: 0.03 * s + look.x * w, y0: 0.03 * s + look.y * w }; };

  function draw(canvas) {
    const { side, s, x0, y0 } = view(canvas), ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    if (canvas.width !== Math.round(width * ratio)) { canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio); }
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    const size = Math.max(3, Math.min(8, 150 / Math.sqrt(n) * Math.sqrt(look.k))), half = size / 2;
    for (const bright of chosen ? [0, 1] : [0]) {
      let colour = -1;
      pen.globalAlpha = chosen && !bright ? 0.25 : 0.85;
      for (let j = 0; j < n; j++) {
        const i = order[j];
        if ((chosen && lit[i] !== bright) || (only.checked && marks[i] < 4)) continue;
        const x = places[4 * i + side] * s + x0, y = places[4 * i + side + 1] * s + y0;
        if (x < -9 || y < -9 || x > width + 9 || y > height + 9) continue;
        const own = tint[i];
        if (own !== colour) { colour = own; pen.fillStyle = pen.strokeStyle = palette[own]; }
        if (side && !(marks[i] & 1)) pen.strokeRect(x - half + 0.5, y - half + 0.5, size - 1, size - 1);
        else pen.fillRect(x - half, y - half, size, size);
      }
    }
    pen.globalAlpha = 1;
    pen.strokeStyle = ink;
    pen.lineWidth = 2;
    if (over >= 0) { pen.beginPath(); pen.arc(places[4 * over + side] * s + x0, places[4 * over + side + 1] * s + y0, 8, 0, 7); pen.stroke(); }
    pen.lineWidth = 1;
    if (brush && brush.canvas === canvas) pen.strokeRect(brush.x, brush.y, brush.to.x - brush.x, brush.to.y - brush.y);
  }

  function nearest(canvas, x, y, within = 144) {
    const { side, s, x0, y0 } = view(canvas);
    let best = -1;
    for (let i = 0; i < n; i++) {
      if (only.checked && marks[i] < 4) continue;
      const dx = places[4 * i + side] * s + x0 - x, dy = places[4 * i + side + 1] * s + y0 - y, far = dx * dx + dy * dy;
      if (far < within) { within = far; best = i; }
    }
    return best;
  }

  async function point(i, event) {
    if (i === over) return;
    over = i;
    later();
    if (i < 0) { at.replaceChildren(); return; }
    await new Promise((resolve) => setTimeout(resolve, 60));
    if (over !== i) return;
    if (!cards.has(i)) cards.set(i, fetch(`/studio/map/item?number=${i}`).then((found) => (found.ok ? found.text() : "")));
    const card = await cards.get(i);
    if (over !== i) return;
    at.replaceChildren(...new DOMParser().parseFromString(card, "text/html").body.childNodes);
    at.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - at.offsetWidth - 8))}px`;
    at.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - at.offsetHeight - 8))}px`;
  }

  function choose(numbers) {
    lit.fill(0);
    for (const i of numbers) lit[i] = 1;
    chosen = numbers.length;
    later();
    htmx.ajax("POST", "/studio/map/items", { target: chosenList, values: { numbers: numbers.join(",") } });
  }

  function within({ canvas, x, y, to }) {
    const { side, s, x0, y0 } = view(canvas), found = [], [left, right] = [x, to.x].sort((a, b) => a - b), [top, bottom] = [y, to.y].sort((a, b) => a - b);
    for (let i = 0; i < n; i++) {
      if (only.checked && marks[i] < 4) continue;
      const px = places[4 * i + side] * s + x0, py = places[4 * i + side + 1] * s + y0;
      if (px >= left && px <= right && py >= top && py <= bottom) found.push(i);
    }
    return found;
  }

  function zoom(by, x = 0.5, y = 0.5) {
    const k = by ? Math.max(1, Math.min(40, look.k * by)) : 1, ratio = k / look.k;
    look = k === 1 ? { k, x: 0, y: 0 } : { k, x: x - (x - look.x) * ratio, y: y - (y - look.y) * ratio };
    later();
  }

  for (const canvas of sheets) {
    const place = (event) => { const box = canvas.getBoundingClientRect(); return { x: event.clientX - box.left, y: event.clientY - box.top }; };
    canvas.addEventListener("pointerdown", (event) => { brush = { canvas, ...place(event), to: place(event), look }; if (event.pointerType === "mouse" || moving()) canvas.setPointerCapture(event.pointerId); });
    canvas.addEventListener("pointermove", (event) => {
      const to = place(event);
      if (!brush) { point(nearest(canvas, to.x, to.y), event); return; }
      brush.to = to;
      if (moving()) look = { k: brush.look.k, x: brush.look.x + (to.x - brush.x) / canvas.clientWidth, y: brush.look.y + (to.y - brush.y) / canvas.clientWidth };
      later();
    });
    canvas.addEventListener("pointerup", (event) => {
      if (!brush) return;
      const done = brush, moved = Math.abs(done.to.x - done.x) + Math.abs(done.to.y - done.y) > 6;
      brush = null;
      if (!moved) { const i = nearest(canvas, done.x, done.y, 400); point(i, event); choose(i < 0 ? [] : [i]); } else if (!moving()) choose(within(done));
      later();
    });
    canvas.addEventListener("pointercancel", () => { brush = null; later(); });
    canvas.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") point(-1); });
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      const to = place(event);
      zoom(Math.exp(-event.deltaY / 200), to.x / canvas.clientWidth, to.y / canvas.clientWidth);
    }, { passive: false });
    new ResizeObserver(later).observe(canvas);
  }
  tools.addEventListener("click", (event) => { const by = event.target.dataset.zoom; if (by !== undefined) zoom(Number(by)); });
  tools.addEventListener("change", () => { maps.classList.toggle("moving", moving()); later(); });
  document.getElementById("map-category")?.addEventListener("submit", (event) => {
    const wanted = event.target.querySelector("select").selectedIndex + 1;
    chosen = 0;
    for (let i = 0; i < n; i++) chosen += lit[i] = Number(category[i] === wanted);
    later();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
  paint();
})();
