"use strict";
// What a page of spikescope does beside being read: hover, zoom over time, search, sorting, dark and light, print.
// Everything is there without it. Text goes in as text alone.
(() => {
  const all = (what, inside = document) => [...inside.querySelectorAll(what)];
  const one = (name) => document.getElementById(name);
  const root = document.documentElement, tip = one("tip");
  let documents = [];
  const read = () => { documents = JSON.parse(one("spikescope-data").textContent); };
  read();

  // Numbers, as they are written on the page.
  const short = (held) => {
    if (held === null || held === undefined) return "not measured";
    if (typeof held === "string") return { nan: "not a number", inf: "infinite", "-inf": "minus infinite" }[held] ?? held;
    if (held === 0) return "0";
    return Math.abs(held) >= 1e-3 && Math.abs(held) < 1e5 ? String(Number(held.toPrecision(4))) : held.toPrecision(3);
  };
  const shown = (held, form) => (form === "share" && typeof held === "number" ? `${short(100 * held)} %` : short(held));

  // Dark and light: as the system has it, until somebody chooses.
  const dark = () => (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const theme = one("theme");
  const named = () => { theme.textContent = dark() ? "Light" : "Dark"; };
  theme.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; named(); });
  named();

  // Print: light, with everything that is folded opened.
  let before = null;
  addEventListener("beforeprint", () => {
    before = { theme: root.dataset.theme, folded: all("details:not([open])") };
    root.dataset.theme = "light";
    before.folded.forEach((held) => { held.open = true; });
  });
  addEventListener("afterprint", () => {
    if (before === null) return;
    if (before.theme === undefined) delete root.dataset.theme; else root.dataset.theme = before.theme;
    before.folded.forEach((held) => { held.open = false; });
    before = null;
  });
  one("print").addEventListener("click", () => print());

  // The map by another measure.
  let measure = null;
  const colour = (key) => {
    measure = key;
    all("[data-by]").forEach((held) => { held.dataset.by = key; });
    all("[data-measure]").forEach((held) => { held.setAttribute("aria-pressed", String(held.dataset.measure === key)); });
  };

  // Search: rows and strips of other layers go away, the map keeps its shape.
  const search = one("search");
  const find = () => {
    const wanted = search.value.trim().toLowerCase();
    let first = null;
    all("[data-layer]").forEach((held) => {
      const fits = held.dataset.layer.toLowerCase().includes(wanted);
      if (held.closest("ol.map")) {
        held.classList.toggle("off", !fits);
        if (fits && wanted && first === null) first = held;
      } else held.hidden = !fits;
    });
    const box = first === null ? null : first.closest(".scroll");
    if (box !== null) box.scrollTop += first.getBoundingClientRect().top - box.getBoundingClientRect().top - 60;
  };
  search.addEventListener("input", find);

  // Tables: a head becomes a button; numbers by size, what was not measured last.
  const sort = (head) => {
    const table = head.closest("table"), body = table.tBodies[0], at = head.cellIndex;
    const down = head.getAttribute("aria-sort") === "none" ? at > 1 : head.getAttribute("aria-sort") === "ascending";
    all("th[aria-sort]", table).forEach((held) => held.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => {
      const cell = row.cells[at], held = cell.dataset.value;
      if (at === 1) return cell.textContent;
      if (held === undefined) return null;
      return { nan: NaN, inf: Infinity, "-inf": -Infinity }[held] ?? Number(held);
    };
    const empty = (held) => held === null || Number.isNaN(held);
    const rows = [...body.rows].map((row, place) => [key(row), place, row]);
    rows.sort(([a, i], [b, j]) => {
      if (empty(a) || empty(b)) return empty(a) - empty(b) || i - j;
      return (a < b ? -1 : a > b ? 1 : 0) * (down ? -1 : 1) || i - j;
    });
    body.append(...rows.map((held) => held[2]));
  };
  const sortable = (inside) => all("th[data-sort]:not([aria-sort])", inside).forEach((head) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => sort(head));
  });

  // Zoom over time: the window of a plot is the view box of its drawing; plots of one group go together.
  const windows = new Map();
  const ends = (plot) => [Number(plot.dataset.low), Number(plot.dataset.high)];
  const seen = (plot) => windows.get(plot.dataset.group) ?? ends(plot);
  const axis = (plot, low, high) => {
    const drawn = plot.closest(".frame").querySelector(".below");
    if (drawn === null) return;
    const rough = (high - low) / 5, base = 10 ** Math.floor(Math.log10(rough));
    const step = Math.max(1, [1, 2, 5, 10].map((held) => held * base).find((held) => held >= rough) ?? base);
    const words = [];
    for (let at = Math.ceil(low / step) * step; at <= high; at += step) {
      const share = (at - low) / (high - low), text = document.createElementNS(drawn.namespaceURI, "text");
      text.textContent = at.toLocaleString("en");
      text.setAttribute("x", `${100 * share}%`);
      text.setAttribute("y", "13");
      text.setAttribute("text-anchor", share < .03 ? "start" : share > .97 ? "end" : "middle");
      words.push(text);
    }
    drawn.replaceChildren(...words);
  };
  const zoom = (group, low, high) => {
    const plots = all(".plot").filter((plot) => plot.dataset.group === group);
    if (!plots.length) return;
    const first = Math.min(...plots.map((plot) => ends(plot)[0])), last = Math.max(...plots.map((plot) => ends(plot)[1]));
    const span = Math.min(last - first, Math.max(high - low, (last - first) / 1000, 1e-9));
    const start = Math.max(first, Math.min(low, last - span));
    if (span >= last - first) windows.delete(group); else windows.set(group, [start, start + span]);
    plots.forEach((plot) => {
      const [a, b] = windows.get(group) ?? ends(plot);
      plot.setAttribute("viewBox", `${a} 0 ${b - a} ${plot.getAttribute("height")}`);
      axis(plot, a, b);
    });
  };
  const place = (plot, event) => {
    const box = plot.getBoundingClientRect(), [low, high] = seen(plot);
    return low + (high - low) * Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
  };
  const rectangle = (plot, from, to) => {
    let drawn = plot.querySelector(".window");
    if (drawn === null) plot.append(drawn = document.createElementNS(plot.namespaceURI, "rect"));
    drawn.setAttribute("class", "window");
    drawn.setAttribute("height", plot.getAttribute("height"));
    drawn.setAttribute("x", Math.min(from, to));
    drawn.setAttribute("width", Math.abs(to - from));
  };
  let drag = null;
  document.addEventListener("pointerdown", (event) => {
    const plot = event.target.closest(".plot");
    if (plot !== null && event.button === 0) drag = { plot, from: place(plot, event), x: event.clientX };
  });
  document.addEventListener("pointerup", (event) => {
    if (drag === null) return;
    const { plot, from, x } = drag, to = place(plot, event);
    drag = null;
    plot.querySelector(".window")?.remove();
    if (Math.abs(event.clientX - x) > 5) zoom(plot.dataset.group, Math.min(from, to), Math.max(from, to));
  });
  document.addEventListener("dblclick", (event) => {
    const plot = event.target.closest(".plot");
    if (plot !== null) zoom(plot.dataset.group, -Infinity, Infinity);
  });
  document.addEventListener("keydown", (event) => {
    const plot = event.target.closest?.(".plot");
    if (plot === null || plot === undefined) return;
    const [low, high] = seen(plot), span = high - low, middle = (low + high) / 2;
    const to = {
      "+": [middle - span / 4, middle + span / 4], "=": [middle - span / 4, middle + span / 4], "-": [middle - span, middle + span],
      ArrowLeft: [low - span / 4, high - span / 4], ArrowRight: [low + span / 4, high + span / 4],
      Escape: [-Infinity, Infinity], "0": [-Infinity, Infinity],
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    zoom(plot.dataset.group, ...to);
  });

  // Hover: the words of a drawing, or the values of a plot at that place.
  const nearest = (x, at) => x.reduce((best, held, i) => (Math.abs(held - at) < Math.abs(x[best] - at) ? i : best), 0);
  const words = {
    courses(held, x) {
      const at = nearest(held.x, x), lines = held.series.map(({ name, values }) => [values[at], name]);
      lines.sort(([a], [b]) => (typeof b === "number") - (typeof a === "number") || b - a);
      const more = lines.length > 10 ? `\n… and ${lines.length - 10} more` : "";
      return `${held.axis} ${short(held.x[at])}\n${lines.slice(0, 10).map(([v, name]) => `${name}: ${shown(v, held.form)}`).join("\n")}${more}`;
    },
    rasters(held, x, y) {
      const row = Math.min(held.rows.length - 1, Math.floor(y * held.rows.length)), step = Math.round(x);
      if (row < 0) return "no neuron";
      const fired = held.marks[row].includes(Math.floor((step - held.first) / held.bin));
      return `${held.layer}, neuron ${held.rows[row]}\nstep ${step}: ${fired ? "a spike" : "no spike"}\n${held.marks[row].length} marks in all`;
    },
    potentials(held, x) {
      const at = nearest(held.x, x);
      const fired = held.spikes.includes(held.x[at]) ? ", a spike" : "";
      return `${held.layer}, neuron ${held.neuron}\nstep ${held.x[at]}: ${short(held.values[at])}${fired}`;
    },
  };
  const told = (plot, event) => {
    if (plot.dataset.from === undefined) return "";
    const [which, part, at] = plot.dataset.from.split("."), held = documents[which]?.[part]?.[at];
    if (held === undefined) return "";
    const box = plot.getBoundingClientRect();
    return words[part](held, place(plot, event), (event.clientY - box.top) / box.height);
  };
  const cursor = (plot, x) => {
    all(".cursor").forEach((held) => held.remove());
    if (plot === null) return;
    const drawn = document.createElementNS(plot.namespaceURI, "path");
    drawn.setAttribute("class", "cursor");
    drawn.setAttribute("d", `M${x} 0V${plot.getAttribute("height")}`);
    plot.append(drawn);
  };
  const say = (text, event) => {
    tip.hidden = text === "";
    if (text === "") return;
    tip.textContent = text;
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - box.width - 8))}px`;
    tip.style.top = `${event.clientY + 18 + box.height > innerHeight ? Math.max(4, event.clientY - box.height - 10) : event.clientY + 18}px`;
  };
  document.addEventListener("pointermove", (event) => {
    const plot = event.target.closest?.(".plot") ?? null, held = event.target.closest?.("[data-tip]") ?? null;
    cursor(plot, plot === null ? 0 : place(plot, event));
    if (drag !== null) rectangle(drag.plot, drag.from, place(drag.plot, event));
    say(plot !== null ? told(plot, event) : held !== null ? held.dataset.tip : "", event);
  });
  document.addEventListener("pointerleave", () => { cursor(null); say(""); });
  addEventListener("scroll", () => say(""), { passive: true });

  // What script adds to the parts of the page, at the beginning and to each that a live view replaces.
  const dress = (inside) => {
    all(".controls, .choice", inside).forEach((held) => { held.hidden = false; });
    sortable(inside);
    all("[data-measure]", inside).forEach((held) => held.addEventListener("click", () => colour(held.dataset.measure)));
    const first = inside.querySelector("[data-by]");
    if (first !== null) colour(measure !== null && inside.querySelector(`[data-measure="${measure}"]`) ? measure : first.dataset.by);
    new Set(all(".plot", inside).map((plot) => plot.dataset.group)).forEach((group) => {
      if (windows.has(group)) zoom(group, ...windows.get(group));
    });
    if (search.value !== "") find();
  };
  dress(document);

  // For the script of a live view: new parts of the page by name, as `sections` draws them, and the new documents.
  window.spikescope = Object.freeze({
    replace(parts, data) {
      if (data !== undefined) documents = data;
      for (const [name, html] of Object.entries(parts)) {
        const holder = document.createElement("template"), old = one(name);
        holder.innerHTML = html;
        const made = holder.content.firstElementChild;
        if (old !== null) old.replaceWith(made); else document.querySelector("main").append(made);
        dress(made);
      }
    },
  });
})();
