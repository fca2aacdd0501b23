// Tabs, sorting, filters, units, comparison and permalinks of a leaderboard.
// The page is complete without this file: everything here rearranges what the tables already say.
"use strict";
(() => {
  const FIELDS = ["energy", "low", "high", "stars", "probability", "size", "quality", "tokens", "first", "last"];
  const CONTROLS = ["search", "stars", "size", "precision", "kind", "per", "unit", "grid"];
  const MISSING = "–";
  const CHUNK = 100;  // rows of a long table that are on the page before all are asked for
  const byId = (id) => document.getElementById(id);
  const form = document.querySelector("form.controls");
  const panel = byId("comparison");
  const say = (text) => { byId("status").textContent = text; };
  const make = (name, text, parent, attributes = {}) => {
    const element = document.createElement(name);
    element.textContent = text;
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    parent.append(element);
    return element;
  };

  // ---- what the tables hold ---------------------------------------------------------------------------
  const readRow = (element, precise) => {
    const numbers = element.dataset.v.split(" ");
    const name = element.querySelector("a").textContent;
    const row = { element, name, search: name.toLowerCase(), drawn: "query Wh 1" };
    FIELDS.forEach((field, i) => { row[field] = numbers[i] === "-" ? NaN : Number(numbers[i]); });
    row.precision = precise ? element.lastElementChild.textContent : "";
    return row;
  };
  const readTable = (section) => {
    const table = section.querySelector("table");
    const precise = table.querySelector("th.prec") !== null;  // the last column, where there is one
    const rows = Array.from(table.tBodies[0].rows, (element) => readRow(element, precise));
    return { section, table, rows, found: rows, attached: rows.length };
  };
  const tasks = Array.from(document.querySelectorAll("section.task"), (section) => ({
    section, tables: Array.from(section.querySelectorAll("section.cohort"), readTable),
  }));
  const tables = tasks.flatMap((task) => task.tables);
  let active = tasks[0];
  let chosen = [];

  // ---- units: the same rules as the page was made by --------------------------------------------------
  const format = (value, like) => {
    const digits = like > 0 ? Math.max(0, 2 - Math.floor(Math.log10(like) + 1e-12)) : 0;
    const same = { minimumFractionDigits: digits, maximumFractionDigits: digits, roundingMode: "halfEven" };
    return value.toLocaleString("en", same);
  };
  const units = () => {
    const [unit, per, grid] = [byId("unit").value, byId("per").value, byId("grid").selectedOptions[0]];
    const factor = unit === "J" ? 3600 : unit === "Wh" ? 1 : Number(grid.value) / 1000;
    const words = `${unit} per 1,000 ${per === "token" ? "output tokens" : "queries"}`;
    return { per, unit, factor, key: `${per} ${unit} ${factor}`,
             words: unit === "gCO2e" ? `${words} (${grid.textContent})` : words };
  };
  const inUnits = (row, field, now) => row[field] * now.factor * (now.per === "token" ? 1000 / row.tokens : 1);
  // Another unit is a factor, which moves nothing on a logarithmic scale; per token there are no bars.
  const drawRow = (row, now) => {
    const [energy, low, high] = ["energy", "low", "high"].map((field) => inUnits(row, field, now));
    row.element.querySelector("td.wh").textContent = Number.isFinite(energy) ? format(energy, energy) : MISSING;
    row.element.querySelector("td.bar span").textContent =
      Number.isFinite(high) ? `${format(low, energy)} – ${format(high, energy)}` : MISSING;
    row.drawn = now.key;
  };
  const drawTable = (table) => {
    const now = units();
    if (table.drawn.key === now.key) return;
    table.drawn = now;
    table.table.querySelector("th .unit").textContent = now.words;
    table.table.style.setProperty("--unit", `" ${now.unit}"`);
    table.table.classList.toggle("per-token", now.per === "token");
    table.table.classList.toggle("other-unit", now.unit !== "Wh");
    for (const row of table.found.slice(0, table.attached)) prepare(table, row);
  };

  // ---- rows on the page: of a long table the first hundred, until all are asked for --------------------
  const prepare = (table, row) => {
    if (!row.box) {
      const cell = row.element.firstElementChild;
      row.box = make("input", "", cell, { type: "checkbox", "aria-label": `Compare ${row.name}` });
      cell.prepend(row.box);
    }
    if (row.drawn !== table.drawn.key) drawRow(row, table.drawn);
  };
  const attach = (table, upTo) => {
    const rows = table.found.slice(table.attached, upTo);
    for (const row of rows) prepare(table, row);
    table.table.tBodies[0].append(...rows.map((row) => row.element));
    table.attached += rows.length;
    table.more.hidden = table.attached === table.found.length;
    table.more.firstChild.textContent = `Show all ${table.found.length.toLocaleString("en")}`;
  };
  const refill = (table) => {
    table.table.tBodies[0].textContent = "";
    table.attached = 0;
    table.table.setAttribute("aria-rowcount", table.found.length + 1);
    attach(table, table.found.length <= 3 * CHUNK ? Infinity : CHUNK);
  };

  // ---- sorting and filters ------------------------------------------------------------------------------
  const collator = new Intl.Collator("en", { numeric: true });
  const compareBy = (field, direction) => {
    const now = units();
    const key = (row) => (field === "energy" ? inUnits(row, field, now) : row[field]);
    if (field === "name" || field === "precision") return (a, b) => direction * collator.compare(a[field], b[field]);
    return (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);  // missing values come last
      return direction * (x - y) || (field === "stars" ? direction * (a.probability - b.probability) : 0);
    };
  };
  const sortTable = (table, heading, direction) => {
    table.rows.sort(compareBy(heading.dataset.sort, direction));
    table.found = table.rows.filter(wanted(table));
    refill(table);
    for (const other of table.table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
    say(`Sorted by ${heading.textContent}, ${direction > 0 ? "ascending" : "descending"}.`);
  };
  const onSort = (table, heading) => {
    const first = ["stars", "quality"].includes(heading.dataset.sort) ? -1 : 1;  // the better end first
    const turned = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    sortTable(table, heading, heading.hasAttribute("aria-sort") ? turned : first);
    remember();
  };
  const wanted = (table) => {
    const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const [stars, size, precision, kind] = ["stars", "size", "precision", "kind"].map((id) => byId(id).value);
    const [from, to] = size.split(" ").map(Number);
    const fits = (row) => !size || (size === "unknown" ? Number.isNaN(row.size) : row.size > from && row.size <= to);
    return (row) => words.every((word) => row.search.includes(word)) && (!Number(stars) || row.stars >= stars)
      && fits(row) && (!precision || row.precision === precision) && (!kind || table.section.dataset.kind === kind);
  };
  const applyFilters = () => {
    for (const task of tasks) {
      for (const table of task.tables) {
        table.found = table.rows.filter(wanted(table));
        refill(table);
      }
      task.found = task.tables.reduce((sum, table) => sum + table.found.length, 0);
      task.tab.querySelector(".n").textContent = task.found;
    }
    const elsewhere = tasks.filter((task) => task !== active && task.found)
      .map((task) => `${task.found} in ${task.section.getAttribute("aria-label")}`);
    const total = active.tables.reduce((sum, table) => sum + table.rows.length, 0);
    const others = active.found === 0 && elsewhere.length ? `; ${elsewhere.join(", ")}` : "";
    say(active.found === total ? "" : `${active.found} of ${total} models shown${others}.`);
  };
  const applyUnits = () => {
    byId("grid-label").hidden = byId("unit").value !== "gCO2e";
    for (const table of active.tables) drawTable(table);
    drawComparison();
  };

  // ---- tabs -----------------------------------------------------------------------------------------------
  const show = (task) => {
    active = task;
    for (const other of tasks) {
      other.section.hidden = other !== task;
      other.tab.setAttribute("aria-selected", String(other === task));
      other.tab.tabIndex = other === task ? 0 : -1;
    }
    for (const table of task.tables) drawTable(table);
  };
  const onTabKey = (event) => {
    const here = tasks.indexOf(active);
    const next = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: tasks.length - 1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    show(tasks[(next + tasks.length) % tasks.length]);
    active.tab.focus();
    remember();
  };
  const makeTab = (task) => {
    task.tab = document.querySelector(`.tabs [href="#${CSS.escape(task.section.id)}"]`);
    task.tab.parentElement.setAttribute("role", "presentation");
    task.tab.setAttribute("role", "tab");
    task.section.setAttribute("role", "tabpanel");
    task.tab.addEventListener("click", (event) => { event.preventDefault(); show(task); remember(); });
    task.tab.addEventListener("keydown", onTabKey);
    if (task.tables.length > 1) makeClasses(task);
  };
  const makeClasses = (task) => {
    const group = make("div", "", task.section, { class: "classes", role: "group", "aria-label": "Model class" });
    task.section.querySelector("h2").after(group);
    const choose = (button) => {
      for (const other of group.children) other.setAttribute("aria-pressed", String(other === button));
      for (const { section } of task.tables) section.hidden = ![section.dataset.class, ""].includes(button.value);
    };
    for (const value of ["", ...task.tables.map((table) => table.section.dataset.class)]) {
      const button = make("button", value ? `Class ${value}` : "All classes", group, { type: "button", value });
      button.setAttribute("aria-pressed", String(value === ""));
      button.addEventListener("click", () => choose(button));
    }
  };

  // ---- comparison: models are told apart by their ranks, never by whether intervals overlap -----------------
  const onPick = (table, row) => {
    if (!row.box.checked) chosen = chosen.filter((other) => other.row !== row);
    else if (chosen.length && chosen[0].table !== table) {
      for (const other of chosen) other.row.box.checked = false;
      chosen = [{ table, row }];
      say("Only models of one table can be compared; a new comparison starts.");
    } else chosen.push({ table, row });
    drawComparison();
    remember();
  };
  const verdict = (rows) => {
    const [first, ...rest] = [...rows].sort((a, b) => a.energy - b.energy);
    const times = rest.map((row) => `${row.name} ${(row.energy / first.energy).toFixed(2)} times as much`).join(", ");
    const tied = rest.filter((row) => !(row.first > first.last)).map((row) => row.name);
    return `${first.name} needs least energy, ${times}. ` + (tied.length === 0 ? "Their ranges of ranks do not overlap."
      : `Its range of ranks overlaps that of ${tied.join(", ")}.`);
  };
  const drawComparison = () => {
    panel.replaceChildren();
    panel.hidden = chosen.length === 0;
    if (!chosen.length) return;
    const rows = chosen.map((one) => one.row);
    const head = make("p", "", panel);
    make("b", rows.length < 2 ? `Chosen: ${rows[0].name}. Choose more of this table.` : verdict(rows), head);
    make("button", "Clear", head, { type: "button" }).addEventListener("click", () => {
      for (const row of rows) row.box.checked = false;
      chosen = [];
      drawComparison();
      remember();
    });
    if (rows.length < 2) return;
    const section = make("section", "", panel, { class: "cohort" });
    const table = section.appendChild(chosen[0].table.table.cloneNode(false));
    const body = table.createTBody();
    for (const row of rows) {
      body.append(row.element.cloneNode(true));
      body.lastElementChild.querySelector("input").remove();
    }
  };

  // ---- permalinks: the address says what is shown --------------------------------------------------------------
  const pageOf = (row) => row.element.querySelector("a").getAttribute("href");
  const remember = () => {
    const changed = CONTROLS.map(byId).filter((control) => control.value !== (control.options?.[0].value ?? ""));
    const state = new URLSearchParams(changed.map((control) => [control.id, control.value]));
    const sorted = active.tables[0].table.querySelector("th[aria-sort]");
    const order = `${sorted.dataset.sort} ${sorted.getAttribute("aria-sort")}`;
    if (order !== "energy ascending") state.set("sort", order);
    if (chosen.length) state.set("compare", chosen.map(({ row }) => pageOf(row)).join(" "));
    history.replaceState(null, "", `#${active.section.id}${String(state) && `?${state}`}`);
  };
  const restore = () => {
    const [anchor, query] = decodeURI(location.hash.slice(1)).split("?");
    const state = new URLSearchParams(query ?? "");
    for (const id of CONTROLS) if (state.has(id)) byId(id).value = state.get(id);
    show(tasks.find((task) => task.section.id === anchor
      || task.tables.some((table) => table.section.id === anchor)) ?? tasks[0]);
    if (query) { applyFilters(); applyUnits(); form.querySelector("details").open = state.size > 0; }
    const [field, direction] = (state.get("sort") ?? "").split(" ");
    for (const table of direction ? active.tables : []) {
      const heading = table.table.querySelector(`th[data-sort="${CSS.escape(field)}"]`);
      if (heading) sortTable(table, heading, direction === "ascending" ? 1 : -1);
    }
    for (const href of (state.get("compare") ?? "").split(" ").filter(Boolean)) {
      for (const table of active.tables) {
        const row = table.rows.find((one) => pageOf(one) === href);
        if (row) { prepare(table, row); row.box.checked = true; onPick(table, row); }
      }
    }
  };

  // ---- start ------------------------------------------------------------------------------------------------
  document.documentElement.classList.add("js");
  document.querySelector(".tabs ul").setAttribute("role", "tablist");
  const start = units();
  for (const table of tables) {
    table.drawn = start;
    for (const heading of table.table.querySelectorAll("th[data-sort]")) {
      const button = make("button", "", heading, { type: "button" });
      button.append(...Array.from(heading.childNodes).filter((node) => node !== button));
      button.addEventListener("click", () => onSort(table, heading));
    }
    table.more = make("p", "", table.section, { class: "more" });
    make("button", "", table.more, { type: "button" }).addEventListener("click", () => attach(table, Infinity));
    refill(table);
    const picked = (event) => table.rows.find((row) => row.box === event.target);
    table.table.addEventListener("change", (event) => onPick(table, picked(event)));
  }
  tasks.forEach(makeTab);
  form.hidden = false;
  form.querySelector("details").open = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => { applyFilters(); applyUnits(); remember(); }));
  for (const id of CONTROLS) {
    const apply = CONTROLS.indexOf(id) < 5 ? applyFilters : applyUnits;
    byId(id).addEventListener("input", () => { apply(); remember(); });
  }
  addEventListener("beforeprint", () => { for (const table of tables) attach(table, Infinity); });
  addEventListener("hashchange", restore);
  restore();
})();
