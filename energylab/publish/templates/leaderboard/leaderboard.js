// Sorting, tabs, search, filters, units, comparison and pictures of a leaderboard.
// The page is complete without this file: everything here rearranges what the tables already say.
"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const FIELDS = ["energy", "low", "high", "stars", "probability", "size", "quality", "tokens"];
  const MISSING = "–";
  const byId = (id) => document.getElementById(id);
  const status = byId("status");
  const form = document.querySelector("form.controls");
  const say = (text) => { status.textContent = text; };

  // ---- what the tables hold -------------------------------------------------------------------
  const readRow = (element, precise) => {
    const numbers = element.getAttribute("data-v").split(" ");
    const row = { element, name: element.firstElementChild.textContent, drawn: "query Wh 1" };
    FIELDS.forEach((field, i) => { row[field] = numbers[i] === "-" ? NaN : Number(numbers[i]); });
    row.precision = precise ? element.lastElementChild.textContent : "";
    row.search = row.name.toLowerCase();
    return row;
  };
  const readTable = (section) => {
    const table = section.querySelector("table");
    const precise = table.querySelector("th.prec") !== null;  // the last column, where there is one
    const rows = Array.from(table.tBodies[0].rows, (element) => readRow(element, precise));
    return { section, table, rows, found: rows, attached: rows.length, kind: section.dataset.kind,
             metric: table.querySelector("th.qual")?.textContent };
  };
  const tasks = Array.from(document.querySelectorAll("section.task"), (section) => ({
    section, id: section.id.slice(5), tables: Array.from(section.querySelectorAll("section.cohort"), readTable),
  }));
  const tables = tasks.flatMap((task) => task.tables);
  let active = tasks[0];

  // ---- figures as text: the same rules as the page was made by -----------------------------------
  const formats = new Map();
  const format = (value, like) => {
    const digits = like > 0 ? Math.max(0, 2 - Math.floor(Math.log10(like) + 1e-12)) : 0;
    if (!formats.has(digits)) {
      formats.set(digits, new Intl.NumberFormat("en", {
        minimumFractionDigits: digits, maximumFractionDigits: digits, roundingMode: "halfEven" }));
    }
    return formats.get(digits).format(value);
  };

  // ---- rows on the page: of a long table only as many as the reader has scrolled to ------------------
  const CHUNK = 100;
  const ALL_UP_TO = 300;
  const attach = (table, upTo) => {
    const rows = table.found.slice(table.attached, upTo);
    for (const row of rows) prepare(table, row);
    table.table.tBodies[0].append(...rows.map((row) => row.element));
    table.attached += rows.length;
    const left = table.found.length - table.attached;
    table.more.hidden = left === 0;
    table.more.firstChild.textContent = `Show all: ${left.toLocaleString("en")} more`;
  };
  const refill = (table) => {
    const body = table.table.tBodies[0];
    body.textContent = "";
    table.attached = 0;
    table.table.setAttribute("aria-rowcount", table.found.length + 1);
    attach(table, table.found.length <= ALL_UP_TO ? Infinity : CHUNK);
  };
  const prepare = (table, row) => {
    if (!row.box) addPick(row);
    if (row.drawn !== table.drawn.key) drawRow(row, table.drawn, table.scale);
  };
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const table = entry.isIntersecting && tables.find((candidate) => candidate.more === entry.target);
      if (table) attach(table, table.attached + CHUNK);
    }
  }, { rootMargin: "800px" });
  const addMore = (table) => {
    table.more = document.createElement("p");
    table.more.className = "more";
    const button = document.createElement("button");
    button.type = "button";
    button.addEventListener("click", () => attach(table, Infinity));
    table.more.append(button);
    table.table.after(table.more);
    watcher.observe(table.more);
  };

  // ---- units --------------------------------------------------------------------------------------
  const units = () => {
    const grid = byId("grid").selectedOptions[0];
    const unit = byId("unit").value;
    const per = byId("per").value;
    const factor = unit === "J" ? 3600 : unit === "Wh" ? 1 : Number(grid.value) / 1000;
    const words = `${unit} per 1,000 ${per === "token" ? "output tokens" : "queries"}`;
    return { per, unit, factor, key: `${per} ${unit} ${factor}`,
             words: unit === "gCO2e" ? `${words} (${grid.textContent})` : words };
  };
  const converted = (row, field, now) =>
    row[field] * now.factor * (now.per === "token" ? 1000 / row.tokens : 1);

  const scaleOf = (rows, now) => {
    let low = Infinity;
    let high = 0;
    for (const row of rows) {
      const from = converted(row, "low", now);
      const centre = converted(row, "energy", now);
      const to = converted(row, "high", now);
      const least = from > 0 ? from : Number.isFinite(from) ? centre / 10 : centre;
      if (least < low) low = least;
      if ((Number.isFinite(to) ? to : centre) > high) high = Number.isFinite(to) ? to : centre;
    }
    if (!(high > 0)) return null;
    const pad = Math.max(Math.log(high / low), 0.1) * 0.03 / 0.94;
    low *= Math.exp(-pad);
    const width = Math.log(high / low) + pad;
    return { low, high: low * Math.exp(width),
             at: (value) => 100 * Math.min(Math.max(Math.log(value / low) / width, 0), 1) };
  };
  const ticksOf = (scale) => {
    const span = Math.log10(scale.high / scale.low);
    const steps = span > 3 ? [1] : span > 1.8 ? [1, 3] : span > 0.5 ? [1, 2, 5] : [1, 2, 3, 4, 5, 6, 7, 8, 9];
    const ticks = [];
    for (let power = Math.floor(Math.log10(scale.low)); power <= Math.ceil(Math.log10(scale.high)); power += 1) {
      for (const step of steps) {
        const value = Number(`${step}e${power}`);
        if (value >= scale.low && value <= scale.high) ticks.push(value);
      }
    }
    return ticks;
  };
  const tickText = (value) => value.toLocaleString("en", { maximumSignificantDigits: 10 });

  const svg = (name, attributes, parent) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    parent?.append(element);
    return element;
  };
  const drawAxis = (table, scale) => {
    const axis = table.table.querySelector("svg.axis");
    for (const old of axis.querySelectorAll(":scope > text, :scope > line")) old.remove();
    if (!scale) return;
    for (const value of ticksOf(scale)) {
      const x = `${scale.at(value).toFixed(2)}%`;
      svg("text", { x, y: 11 }, axis).textContent = tickText(value);
      svg("line", { x1: x, x2: x, y1: 14, y2: 19 }, axis);
    }
  };
  const drawRow = (row, now, scale) => {
    const [energy, low, high] = ["energy", "low", "high"].map((field) => converted(row, field, now));
    const [bar, mark] = [row.element.querySelector("rect"), row.element.querySelector("circle")];
    const known = Number.isFinite(energy);
    const wide = Number.isFinite(low) && Number.isFinite(high);
    row.element.querySelector("td.wh").textContent = known ? format(energy, energy) : MISSING;
    row.element.querySelector("td.bar span").textContent =
      wide ? `${format(low, energy)} – ${format(high, energy)}` : MISSING;
    mark.toggleAttribute("hidden", !known);
    bar.toggleAttribute("hidden", !wide);
    row.drawn = now.key;
    if (known) mark.setAttribute("cx", `${scale.at(energy).toFixed(2)}%`);
    if (wide) {
      bar.setAttribute("x", `${scale.at(low).toFixed(2)}%`);
      bar.setAttribute("width", `${(scale.at(high) - scale.at(low)).toFixed(2)}%`);
    }
  };
  const drawTable = (table) => {
    const now = units();
    if (table.drawn.key === now.key) return;
    table.drawn = now;
    table.scale = scaleOf(table.rows, now);
    table.table.querySelector("th .unit").textContent = now.words;
    table.table.style.setProperty("--unit", `" ${now.unit}"`);
    table.table.classList.toggle("no-edges", now.per === "token");
    drawAxis(table, table.scale);
    for (const row of table.found.slice(0, table.attached)) prepare(table, row);
  };

  // ---- sorting --------------------------------------------------------------------------------------
  const collator = new Intl.Collator("en", { numeric: true });
  const key = (row, field, now) =>
    field === "energy" ? converted(row, "energy", now) : row[field];
  const compareBy = (field, direction) => {
    const now = units();
    if (field === "name" || field === "precision") {
      return (a, b) => direction * collator.compare(a[field], b[field]);
    }
    return (a, b) => {
      const [x, y] = [key(a, field, now), key(b, field, now)];
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
      return direction * (x - y) || (field === "stars" ? direction * (a.probability - b.probability) : 0);
    };
  };
  const sortTable = (table, heading) => {
    const field = heading.dataset.sort;
    const up = heading.getAttribute("aria-sort") === "ascending";
    const first = field === "stars" || field === "quality" ? -1 : 1;  // the better end first
    const direction = heading.hasAttribute("aria-sort") ? (up ? -1 : 1) : first;
    table.rows.sort(compareBy(field, direction));
    table.found = table.rows.filter(wanted(table));
    refill(table);
    for (const other of table.table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
    say(`Sorted by ${heading.textContent}, ${direction > 0 ? "ascending" : "descending"}.`);
  };
  const makeSortable = (table) => {
    for (const heading of table.table.querySelectorAll("th[data-sort]")) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => sortTable(table, heading));
    }
  };

  // ---- search and filters ------------------------------------------------------------------------
  const wanted = (table) => {
    const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const stars = Number(byId("stars").value);
    const size = byId("size").value;
    const [from, to] = size.split(" ").map(Number);
    const precision = byId("precision").value;
    const kind = byId("kind").value;
    return (row) =>
      words.every((word) => row.search.includes(word)) && (!stars || row.stars >= stars)
      && (!size || (size === "unknown" ? Number.isNaN(row.size) : row.size > from && row.size <= to))
      && (!precision || row.precision === precision) && (!kind || table.kind === kind);
  };
  const applyFilters = () => {
    for (const task of tasks) {
      task.found = 0;
      for (const table of task.tables) {
        table.found = table.rows.filter(wanted(table));
        refill(table);
        table.section.classList.toggle("empty", table.found.length === 0);
        task.found += table.found.length;
      }
      task.tab.querySelector(".n").textContent = task.found;
    }
    const elsewhere = tasks.filter((task) => task !== active && task.found)
      .map((task) => `${task.found} in ${task.section.getAttribute("aria-label")}`);
    const total = active.tables.reduce((sum, table) => sum + table.rows.length, 0);
    say(active.found === total ? "" : `${active.found} of ${total} models shown`
      + (active.found === 0 && elsewhere.length ? `; ${elsewhere.join(", ")}.` : "."));
    drawPictures(active);
  };

  // ---- tabs ----------------------------------------------------------------------------------------
  const show = (task, focus) => {
    active = task;
    for (const other of tasks) {
      const on = other === task;
      other.section.hidden = !on;
      other.tab.setAttribute("aria-selected", String(on));
      other.tab.tabIndex = on ? 0 : -1;
    }
    for (const table of task.tables) drawTable(table);
    drawPictures(task);
    if (focus) task.tab.focus();
  };
  const onTabKey = (event) => {
    const here = tasks.indexOf(active);
    const next = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: tasks.length - 1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    show(tasks[(next + tasks.length) % tasks.length], true);
  };
  const makeTabs = () => {
    const list = document.querySelector(".tabs ul");
    list.setAttribute("role", "tablist");
    list.setAttribute("aria-label", "Tasks");
    for (const task of tasks) {
      task.tab = list.querySelector(`[data-task="${task.id}"]`);
      task.tab.parentElement.setAttribute("role", "presentation");
      task.tab.setAttribute("role", "tab");
      task.tab.id = `tab-${task.id}`;
      task.tab.setAttribute("aria-controls", task.section.id);
      task.section.setAttribute("role", "tabpanel");
      task.tab.addEventListener("click", (event) => {
        event.preventDefault();
        history.replaceState(null, "", `#${task.section.id}`);
        show(task);
      });
      task.tab.addEventListener("keydown", onTabKey);
      if (task.tables.length > 1) makeClassTabs(task);
    }
  };
  const makeClassTabs = (task) => {
    const group = document.createElement("div");
    group.className = "classes";
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", "Model class");
    const choose = (letter) => {
      for (const button of group.children) button.setAttribute("aria-pressed", String(button.value === letter));
      for (const table of task.tables) table.section.hidden = letter !== "" && table.section.dataset.class !== letter;
      drawPictures(task);
    };
    for (const letter of ["", ...task.tables.map((table) => table.section.dataset.class)]) {
      const button = document.createElement("button");
      button.type = "button";
      button.value = letter;
      button.textContent = letter ? `Class ${letter}` : "All classes";
      button.setAttribute("aria-pressed", String(letter === ""));
      button.addEventListener("click", () => choose(letter));
      group.append(button);
    }
    task.section.querySelector("h2").after(group);
  };

  // ---- comparison ------------------------------------------------------------------------------------
  const panel = byId("comparison");
  let chosen = [];
  const addPick = (row) => {
    row.box = document.createElement("input");
    row.box.type = "checkbox";
    row.box.setAttribute("aria-label", `Compare ${row.name}`);
    row.element.firstElementChild.prepend(row.box);
  };
  const onPick = (table) => (event) => {
    const row = table.rows.find((candidate) => candidate.box === event.target);
    if (row) pick(table, row);
  };
  const pick = (table, row) => {
    if (!row.box.checked) chosen = chosen.filter((other) => other.row !== row);
    else if (chosen.length && chosen[0].table !== table) {
      for (const other of chosen) other.row.box.checked = false;
      chosen = [{ table, row }];
      say("Only models of one table can be compared: the comparison starts again.");
    } else if (chosen.length === 4) {
      row.box.checked = false;
      say("Four models are compared at most: take one out first.");
    } else chosen.push({ table, row });
    drawComparison();
  };
  const clearComparison = () => {
    for (const { row } of chosen) row.box.checked = false;
    chosen = [];
    drawComparison();
  };
  const cell = (name, text, parent, scope) => {
    const element = document.createElement(name);
    element.textContent = text;
    if (scope) element.scope = scope;
    parent.append(element);
    return element;
  };
  const verdict = (rows) => {
    const [first, ...rest] = [...rows].sort((a, b) => a.energy - b.energy);
    if (rows.some((row) => Number.isNaN(row.low))) return "Not every model here has an interval: no verdict.";
    const overlapping = rest.filter((row) => row.low <= first.high);
    if (!overlapping.length) return `${first.name} needs least, and no other interval reaches its own.`;
    return `${first.name} has the lowest mean, but its interval overlaps that of `
      + `${overlapping.map((row) => row.name).join(", ")}: do not call it better.`;
  };
  const comparisonLines = (rows, now) => {
    const least = Math.min(...rows.map((row) => converted(row, "energy", now)));
    const text = (row, name) => row.element.querySelector(`.${name}`)?.textContent ?? MISSING;
    return [
      ["Stars", (row) => (row.stars ? `${row.stars} of 5 (${row.element.querySelector(".star small").textContent.trim()})` : MISSING)],
      [now.words, (row) => text(row, "wh")],
      ["Expanded 95 % interval", (row) => row.element.querySelector("td.bar span").textContent],
      ["Times the least", (row) => {
        const times = converted(row, "energy", now) / least;
        return Number.isFinite(times) ? times.toFixed(2) : MISSING;
      }],
      [chosen[0].table.metric ?? "Quality", (row) => text(row, "qual")],
      ["Size", (row) => text(row, "size")],
      ["Precision", (row) => text(row, "prec")],
    ];
  };
  const drawComparison = () => {
    panel.replaceChildren();
    panel.hidden = chosen.length === 0;
    if (!chosen.length) return;
    const rows = chosen.map((one) => one.row);
    const head = document.createElement("p");
    cell("b", rows.length < 2 ? `Chosen: ${rows[0].name}. Choose one to three more of this table.` : verdict(rows), head);
    const clear = cell("button", "Clear", head);
    clear.type = "button";
    clear.addEventListener("click", clearComparison);
    panel.append(head);
    if (rows.length < 2) return;
    const table = document.createElement("table");
    table.className = "plain";
    const top = table.createTHead().insertRow();
    cell("td", "", top);
    for (const row of rows) cell("th", row.name, top, "col").dir = "auto";
    const body = table.createTBody();
    for (const [title, of] of comparisonLines(rows, units())) {
      if (rows.every((row) => of(row) === MISSING)) continue;
      const line = body.insertRow();
      cell("th", title, line, "row");
      for (const row of rows) cell("td", of(row), line);
    }
    panel.append(table);
  };

  // ---- pictures: energy against size and against quality ---------------------------------------------
  const WIDTH = 420;
  const HEIGHT = 240;
  const EDGE = { left: 52, right: 12, top: 10, bottom: 36 };
  const linear = (values) => {
    const [least, most] = [Math.min(...values), Math.max(...values)];
    const pad = (most - least || Math.abs(most) || 1) * 0.06;
    const [low, high] = [least - pad, most + pad];
    const step = 10 ** Math.floor(Math.log10((high - low) / 2));
    const ticks = [];
    for (let tick = Math.ceil(low / step); tick * step <= high; tick += 1) ticks.push(tick * step);
    const every = Math.ceil(ticks.length / 6);
    return { at: (value) => 100 * (value - low) / (high - low), ticks: ticks.filter((_, i) => i % every === 0) };
  };
  const logarithmic = (values) => {
    const points = values.map((value) => ({ energy: value, low: NaN, high: NaN }));
    const scale = scaleOf(points, { per: "query", factor: 1 });
    return { at: scale.at, ticks: ticksOf(scale) };
  };
  const shortCount = (value) => {
    const [size, letter] = [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]].find(([least]) => value >= least) ?? [1, ""];
    return `${Number((value / size).toPrecision(3))} ${letter}`.trim();
  };
  const drawPicture = (rows, field, title, tickWords, now) => {
    const known = rows.filter((row) => Number.isFinite(row[field]) && Number.isFinite(converted(row, "energy", now)));
    if (known.length < 2) return null;
    const across = (field === "size" ? logarithmic : linear)(known.map((row) => row[field]));
    const up = scaleOf(known, now);
    const x = (value) => EDGE.left + across.at(value) / 100 * (WIDTH - EDGE.left - EDGE.right);
    const y = (value) => HEIGHT - EDGE.bottom - up.at(value) / 100 * (HEIGHT - EDGE.top - EDGE.bottom);
    const figure = document.createElement("figure");
    const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img",
      "aria-label": `Energy against ${title} of ${known.length} models; the table holds the same figures` }, figure);
    for (const value of ticksOf(up)) {
      svg("line", { class: "rule", x1: EDGE.left, x2: WIDTH - EDGE.right, y1: y(value), y2: y(value) }, picture);
      svg("text", { x: EDGE.left - 6, y: y(value) + 4, "text-anchor": "end" }, picture).textContent = tickText(value);
    }
    for (const value of across.ticks) {
      svg("text", { x: x(value), y: HEIGHT - EDGE.bottom + 16, "text-anchor": "middle" }, picture).textContent = tickWords(value);
    }
    const at = (row, value) => [x(row[field]).toFixed(1), y(value).toFixed(1)];
    if (known.length > ALL_UP_TO) {  // one path for all: thousands of elements would be slow, and too dense to point at
      const dots = known.map((row) => `M${at(row, converted(row, "energy", now)).join(" ")}h0`).join("");
      svg("path", { class: "dots", d: dots }, picture);
    } else for (const row of known) drawPoint(row, at, now, picture);
    svg("text", { x: (WIDTH + EDGE.left) / 2, y: HEIGHT - 4, "text-anchor": "middle" }, picture).textContent = title;
    cell("figcaption", `${now.words} against ${title}, ${known.length} models`, figure);
    return figure;
  };
  const drawPoint = (row, at, now, picture) => {
    const [low, high] = [converted(row, "low", now), converted(row, "high", now)];
    if (Number.isFinite(low) && Number.isFinite(high)) {
      const [[x1, y1], [x2, y2]] = [at(row, low), at(row, high)];
      svg("line", { class: "error", x1, x2, y1, y2 }, picture);
    }
    const [cx, cy] = at(row, converted(row, "energy", now));
    const text = `${row.name}: ${format(converted(row, "energy", now), converted(row, "energy", now))} ${now.words}`;
    svg("title", {}, svg("circle", { cx, cy, r: 3.5 }, picture)).textContent = text;
  };
  const drawPictures = (task) => {
    const now = units();
    for (const table of task.tables) {
      table.section.querySelector(".pictures")?.remove();
      if (table.section.hidden) continue;
      const rows = table.found;
      const figures = [drawPicture(rows, "size", "parameters", shortCount, now),
                       drawPicture(rows, "quality", table.metric ?? "quality", tickText, now)].filter(Boolean);
      if (!figures.length) continue;
      const box = document.createElement("div");
      box.className = "pictures";
      box.append(...figures);
      table.table.before(box);
    }
  };

  // ---- start ------------------------------------------------------------------------------------------
  const onUnits = () => {
    byId("grid-label").hidden = byId("unit").value !== "gCO2e";
    for (const table of active.tables) drawTable(table);
    drawPictures(active);
    drawComparison();
  };
  document.documentElement.classList.add("js");
  makeTabs();
  const start = units();
  for (const table of tables) {
    table.drawn = start;
    table.scale = scaleOf(table.rows, start);
    makeSortable(table);
    addMore(table);
    refill(table);
    table.table.addEventListener("change", onPick(table));
  }
  addEventListener("beforeprint", () => { for (const table of tables) attach(table, Infinity); });
  form.hidden = false;
  if (matchMedia("(max-width: 46rem)").matches) form.querySelector("details").open = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => { applyFilters(); onUnits(); }));
  for (const id of ["search", "stars", "size", "precision", "kind"]) byId(id).addEventListener("input", applyFilters);
  for (const id of ["per", "unit", "grid"]) byId(id).addEventListener("input", onUnits);
  const asked = decodeURIComponent(location.hash.slice(1));
  show(tasks.find((task) => task.section.id === asked
    || task.tables.some((table) => table.section.id === asked)) ?? tasks[0]);
})();
