
// The live view: takes what the server sends, and shows it unless somebody has stopped to look at a moment.
(() => {
  "use strict";
  const query = new URLSearchParams(location.search), token = encodeURIComponent(query.get("token") ?? "");
  const make = (name, text, more = {}) => Object.assign(document.createElement(name), { textContent: text }, more);
  const bar = make("section", "", { id: "live" }), line = make("div", "", { className: "controls" });
  const state = make("b", "Live"), numbers = make("span", "waiting for the first step", { className: "note" });
  const pause = make("button", "Pause", { type: "button" }), slider = make("input", "", { type: "range", min: 0, max: 0, step: 1, disabled: true });
  const moment = make("span", "", { className: "note" }), save = make("button", "Save as a file", { type: "button", hidden: true });
  bar.setAttribute("aria-label", "Live");
  slider.setAttribute("aria-label", "Earlier steps that are kept");
  line.append(state, numbers, pause, slider, moment, save);
  bar.append(line);
  document.querySelector("main").before(bar);

  let kept = [], paused = false, ended = false, asked = 0, report = "";
  const count = (held) => held.toLocaleString("en-US");
  const digits = (held) => held === null || held === undefined ? null : Number(held).toPrecision(3);
  const main = document.querySelector("main"), footer = document.querySelector("footer"), signed = footer.textContent;
  footer.textContent = "This page goes on with the program that it looks at, and asks nobody else.";
  const show = (told) => {
    if (!told.parts) return;
    spikescope.replace(told.parts, told.data);
    const names = Object.keys(told.parts), order = [...main.children].map((held) => held.id).filter((id) => names.includes(id));
    if (order.join() !== names.join()) names.forEach((name) => main.append(document.getElementById(name))); // one was new
    const links = names.map((name) => make("a", document.getElementById(name)?.dataset.name ?? name, { href: `#${name}` }));
    if (document.querySelectorAll("header nav a").length !== links.length) document.querySelector("header nav").replaceChildren(...links);
    const facts = document.querySelector("header .facts");
    told.data[0].facts.forEach(([name, held]) => {
      const head = [...(facts?.querySelectorAll("dt") ?? [])].find((one) => one.textContent === name);
      if (head) head.nextElementSibling.textContent = held;
    });
  };
  const past = async (number) => {
    const mine = ++asked, answer = await fetch(`past?number=${number}&token=${token}`).catch(() => null);
    if (mine !== asked) return; // somebody has moved on
    if (answer === null || !answer.ok) { moment.textContent = "that step is not kept any more"; return; }
    show(await answer.json());
    moment.textContent = `step ${count(number)}`;
  };
  const hold = (on) => {
    paused = on;
    pause.textContent = on ? "Go on" : "Pause";
    pause.setAttribute("aria-pressed", String(on));
    if (!on && kept.length) { slider.value = kept.length - 1; past(kept.at(-1)); }
  };
  pause.addEventListener("click", () => hold(!paused));
  slider.addEventListener("input", () => {
    if (!paused) hold(true);
    if (kept.length) past(kept[Number(slider.value)]);
  });
  save.addEventListener("click", () => {
    const link = make("a", "", { href: URL.createObjectURL(new Blob([report], { type: "text/html" })), download: "report.html" });
    link.click();
    URL.revokeObjectURL(link.href);
  });

  const source = new EventSource(`events?token=${token}`);
  source.addEventListener("pulse", (event) => {
    const told = JSON.parse(event.data);
    const words = [
      told.words ?? null,
      told.step === null || told.step === undefined ? null : `step ${count(told.step)} alone`,
      digits(told.loss) === null ? null : `loss ${digits(told.loss)}`,
      digits(told.rate) === null ? null : `${digits(100 * told.rate)} spikes of a neuron in 100 steps`,
      digits(told.speed) === null ? null : `${digits(told.speed)} steps a second`,
      told.dropped ? `${count(told.dropped)} messages dropped, as a client was too slow` : null,
    ].filter((held) => held !== null);
    if (words.length) numbers.textContent = words.join(" · ");
    if (paused) return;
    kept = told.kept;
    slider.disabled = kept.length < 2;
    slider.max = Math.max(0, kept.length - 1);
    slider.value = slider.max;
    moment.textContent = "";
  });
  source.addEventListener("page", (event) => { if (!paused) show(JSON.parse(event.data)); });
  source.addEventListener("end", (event) => {
    const told = JSON.parse(event.data);
    ended = true;
    source.close();
    show(told);
    report = told.report ?? "";
    state.textContent = "Ended";
    footer.textContent = signed;
    pause.hidden = slider.hidden = true;
    moment.textContent = "This page stays as it is.";
    save.hidden = report === "";
  });
  source.addEventListener("open", () => { state.textContent = "Live"; });
  source.addEventListener("error", () => { if (!ended) state.textContent = "No connection; trying again"; });
})();
