// A year of queries: the same sum as energylab.publish.budget, for one model or two; the address keeps the inputs.
"use strict";
(() => {
  const DAYS_A_YEAR = 365.25;
  const INPUTS = ["a", "b", "queries", "grid", "pue", "price"];
  const byId = (id) => document.getElementById(id);
  const format = (value) => value.toLocaleString("en", { maximumSignificantDigits: 3 });
  const number = (id, least) => {
    const value = Number(byId(id).value);
    return Number.isFinite(value) && value >= least ? value : NaN;
  };

  const sums = (option) => {
    const factor = number("queries", 0) * DAYS_A_YEAR * number("pue", 1) / 1e6;
    const kwh = option.dataset.wh.trim().split(" ").map((wh) => Number(wh) * factor);
    const times = (rate) => kwh.map((value) => value * rate);
    return { "kWh": kwh, "Cost": times(number("price", 0)),
             "kg CO2e": times(Number(byId("grid").selectedOptions[0].dataset.g) / 1000) };
  };
  const cell = (name, text, row) => {
    const made = row.appendChild(document.createElement(name));
    made.textContent = text;
    return made;
  };
  const words = ([value, low, high]) => {
    if (Number.isNaN(value)) return "give a number in every field";
    return low === undefined ? `${format(value)} (no interval)` : `${format(value)} (${format(low)} – ${format(high)})`;
  };
  const draw = () => {
    const chosen = ["a", "b"].map((id) => byId(id).selectedOptions[0]).filter((option) => option.value);
    const table = document.createElement("table");
    table.className = "plain";
    const top = table.createTHead().insertRow();
    cell("th", "A year", top).scope = "col";
    for (const option of chosen) cell("th", option.textContent, top).scope = "col";
    const found = chosen.map(sums);
    const body = table.createTBody();
    const rated = body.insertRow();
    cell("th", "Rated energy", rated).scope = "row";
    for (const option of chosen) cell("td", option.dataset.rated, rated);
    for (const title of Object.keys(found[0])) {
      const row = body.insertRow();
      cell("th", title, row).scope = "row";
      for (const one of found) cell("td", words(one[title]), row);
    }
    byId("sums").replaceChildren(table);
    const state = new URLSearchParams(INPUTS.map((id) => [id, byId(id).value]));
    history.replaceState(null, "", `#${state}`);
  };

  for (const [id, value] of new URLSearchParams(location.hash.slice(1))) {
    if (INPUTS.includes(id)) byId(id).value = value;
  }
  byId("budget").addEventListener("submit", (event) => event.preventDefault());
  byId("budget").addEventListener("input", draw);
  draw();
})();
