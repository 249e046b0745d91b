// Paints the hours of a week. Without it the same form has rows.
"use strict";

for (const form of document.querySelectorAll("form.week")) {
  const painted = form.querySelector(".painted");
  if (!painted) continue;
  const cells = form.elements.cells;
  const what = form.elements.what;
  const rows = form.querySelector(".rows");
  const DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
  const values = Array.from({ length: 168 }, (_, at) => Number(cells.value[at]) || 0);
  const table = document.createElement("table");
  table.className = "hours";
  table.setAttribute("role", "grid");
  table.setAttribute("aria-label", "Hours of the week");
  const head = table.createTHead().insertRow();
  head.append(document.createElement("td"));
  for (const day of DAYS) {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.textContent = day.slice(0, 3);
    head.append(cell);
  }
  const body = table.createTBody();
  const places = [];
  for (let hour = 0; hour < 24; hour++) {
    const row = body.insertRow();
    const name = document.createElement("th");
    name.scope = "row";
    name.textContent = String(hour).padStart(2, "0");
    row.append(name);
    for (let day = 0; day < 7; day++) {
      const cell = row.insertCell();
      cell.setAttribute("role", "gridcell");
      cell.tabIndex = -1;
      cell.dataset.at = day * 24 + hour;
      places[day * 24 + hour] = cell;
    }
  }
  const brush = () => Number(form.elements.use.value) || 0;
  const rate = (nth) => nth ? form.elements["brush-" + nth].value || "limit " + nth : "nothing said";
  const show = (at) => {
    const cell = places[at], nth = values[at];
    cell.className = "cell b" + nth;
    cell.textContent = nth || "·";
    cell.setAttribute("aria-label", `${DAYS[Math.floor(at / 24)]} ${String(at % 24).padStart(2, "0")}:00, ${rate(nth)}`);
  };
  const keep = () => { cells.value = values.join(""); };
  const paint = (from, to, nth) => {
    const [d1, d2] = [Math.floor(from / 24), Math.floor(to / 24)].sort((a, b) => a - b);
    const [h1, h2] = [from % 24, to % 24].sort((a, b) => a - b);
    for (let day = d1; day <= d2; day++) for (let hour = h1; hour <= h2; hour++) { values[day * 24 + hour] = nth; show(day * 24 + hour); }
    keep();
  };
  let here = 0, anchor = null, before = null;
  const go = (at) => { places[here].tabIndex = -1; here = at; places[at].tabIndex = 0; places[at].focus(); };
  values.forEach((_, at) => show(at));
  places[0].tabIndex = 0;
  const of = (event) => event.target.closest("td[data-at]");
  table.addEventListener("pointerdown", (event) => {
    const cell = of(event);
    if (!cell || event.button) return;
    event.preventDefault();
    anchor = Number(cell.dataset.at);
    before = values.slice();
    go(anchor);
    paint(anchor, anchor, brush());
    if (cell.hasPointerCapture?.(event.pointerId)) cell.releasePointerCapture(event.pointerId);
  });
  table.addEventListener("pointermove", (event) => {
    if (before === null) return;
    const cell = document.elementFromPoint(event.clientX, event.clientY)?.closest("td[data-at]");
    if (!cell || !table.contains(cell)) return;
    before.forEach((nth, at) => { if (values[at] !== nth) { values[at] = nth; show(at); } });
    paint(anchor, Number(cell.dataset.at), brush());
  });
  addEventListener("pointerup", () => { before = null; });
  addEventListener("pointercancel", () => { before = null; });
  let corner = null;
  table.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const day = Math.floor(here / 24), hour = here % 24;
    const to = { ArrowUp: [day, hour - 1], ArrowDown: [day, hour + 1], ArrowLeft: [day - 1, hour], ArrowRight: [day + 1, hour], Home: [day, 0], End: [day, 23] }[event.key];
    if (to && to[0] >= 0 && to[0] < 7 && to[1] >= 0 && to[1] < 24) {
      const at = to[0] * 24 + to[1];
      if (event.shiftKey) { corner ??= here; paint(corner, at, brush()); } else { corner = null; }
      go(at);
    } else if (event.key === " " || event.key === "Enter") {
      paint(here, here, brush());
    } else if (/^[0-6]$/.test(event.key)) {
      form.elements.use.value = event.key;
    } else if (!to) { return; }
    event.preventDefault();
  });
  form.addEventListener("input", (event) => { if (event.target.name?.startsWith("brush-")) values.forEach((_, at) => show(at)); });
  painted.querySelector(".grid-place").append(table);
  const choose = (grid) => {
    painted.hidden = !grid;
    rows.hidden = grid;
    what.value = grid ? "grid" : "rows";
    other.textContent = grid ? "Fill in rows instead" : "Paint instead";
  };
  const other = document.createElement("button");
  other.type = "button";
  other.className = "quiet";
  other.addEventListener("click", () => choose(painted.hidden));
  form.querySelector(".actions").append(other);
  choose(form.querySelector(".rows [aria-invalid]") === null);
}
