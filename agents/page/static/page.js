// The page: fetches the state of a session, listens to what happens, and says what the person does.

import { $, ask, complain, make, number, openSheet } from "./dom.js";
import { beforeAfter, compare } from "./compare.js";
import { drawGrid, finishedOf, imageOf, selected, watchWords } from "./grid.js";
import { loadResults, nameFolders, watchResults } from "./results.js";

const KEYS = [
  ["arrows", "move between pictures; left and right between words"], ["Space, Enter", "select a picture"], ["f", "finish the selected from where they are paused"],
  ["c", "compare two under a slider"], ["p", "pick: go on from this wording and seed"], ["l", "look further: denoise on and look again"],
  ["x", "reject, or take that back"], ["r", "ask for rewrites"], ["u", "undo"], ["/", "type a prompt"], ["Esc", "clear the selection"], ["?", "these keys"],
];
const COUNTS = [1, 2, 3, 4, 6, 8];
let state = null, source = null, live = new Map(), name = new URLSearchParams(location.search).get("session") ?? "", waiting = false;

// --- the state ---------------------------------------------------------------------------------------------------

async function refresh() {
  try {
    state = await ask(`/page/state?session=${encodeURIComponent(name)}`);
  } catch (error) {
    complain(error.message);
    return;
  }
  name = state.session;
  live = new Map();
  const known = new Set(state.rows.flatMap((r) => Object.keys(r.cells).map((s) => `${r.id}@${s}`)));
  for (const key of selected) if (!known.has(key)) selected.delete(key);
  if (state.error) complain(state.error);
  show();
  const bare = state.rows.some((r) => r.cells[state.seed] && !r.cells[state.seed].words && !finishedOf(state, r, state.seed)?.there);
  if (bare && !state.doing && !asked.has(name)) { asked.add(name); say("/show"); } // begun in a terminal
}
const asked = new Set();

function listen() {
  source?.close();
  source = new EventSource(`/page/events?session=${encodeURIComponent(name)}`);
  source.onmessage = (message) => {
    const told = JSON.parse(message.data);
    if (told.event === "anew" || told.event === "done") { refresh(); return; }
    if (!state) return;
    if (told.event === "doing") state.doing = told;
    if (told.event === "step") state.doing = { ...state.doing, what: told.what, step: told.step };
    if (told.event === "cells") for (const cell of told.cells) merge(cell);
    soon(told.event === "cells" ? show : progress);
  };
  let lost = false;
  source.onerror = () => { lost = true; document.body.classList.add("away"); };
  source.onopen = () => { document.body.classList.remove("away"); if (lost) refresh(); lost = false; };
}

function soon(act) {
  if (waiting && act !== show) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; act(); });
}

function merge(cell) {
  if (!live.has(cell.prompt)) live.set(cell.prompt, {});
  live.get(cell.prompt)[cell.seed] = cell;
}

function merged() {
  const rows = state.rows.map((r) => ({ ...r, cells: { ...r.cells, ...(live.get(r.prompt) ?? {}) } }));
  for (const [prompt, cells] of live) {
    if (!rows.some((r) => r.prompt === prompt)) rows.push({ id: null, prompt, strategy: "being looked at", cells, facts: [], notes: [] });
  }
  return { ...state, rows };
}

async function say(line) {
  try {
    await ask("/page/say", { session: name, line });
    complain("");
    return true;
  } catch (error) {
    complain(error.message);
    return false; // what was typed stays
  }
}

// --- what is shown -----------------------------------------------------------------------------------------------

function show() {
  const all = merged(), m = state.model;
  document.title = state.prompt ? `${state.prompt.slice(0, 40)} – promptprobe` : "promptprobe";
  $("model").replaceChildren(make("b", {}, m.name), ` judged by ${m.judge} (${m.label}) at step ${m.probe_step} of ${m.steps}, rewritten by ${m.rewriter.split(" (")[0]}`);
  $("draws").textContent = m.draws ? `${m.draws[0].toUpperCase()}${m.draws.slice(1)}. Nothing else.` : "This model may draw anything.";
  $("sessions").replaceChildren(...[...new Set([...state.sessions, name])].sort().map((n) => make("option", { value: n, selected: n === name }, n)));
  const results = document.querySelector("[data-view=results]");
  if (results.hidden === Boolean(state.folders.length)) { results.hidden = !state.folders.length; nameFolders(state.folders); }
  if (document.activeElement !== $("prompt") && !$("prompt").dataset.typed) $("prompt").value = state.prompt;
  $("work").hidden = !all.rows.length;
  $("empty").hidden = Boolean(all.rows.length);
  progress();
  if (!all.rows.length) { chosen(); return; }
  gate();
  const counts = [...new Set([...COUNTS, state.seeds.length])].sort((a, b) => a - b);
  $("seeds").replaceChildren(...counts.map((n) => make("option", { value: n, selected: n === state.seeds.length }, n === 1 ? "1 seed" : `${n} seeds`)));
  $("undo").disabled = !state.undo;
  $("said").textContent = [state.said, state.spent && `LLM: ${state.spent}`].filter(Boolean).join("\n");
  drawGrid(all);
  gallery();
  $("history").querySelector("ol").replaceChildren(...state.log.map((l) => make("li", {}, make("code", {}, l.line), make("span", {}, l.said))));
  chosen();
}

function progress() {
  const doing = state?.doing;
  $("progress").hidden = !doing;
  document.body.classList.toggle("busy", Boolean(doing));
  if (!doing) return;
  const whole = doing.what.startsWith("finishing") ? state.model.steps : state.model.probe_step;
  if ($("what").textContent !== doing.what) $("what").textContent = doing.what;
  $("steps").max = Math.max(whole, doing.step);
  $("steps").value = doing.step;
}

function gate() {
  const g = state.gate;
  if (!g) { $("gate").replaceChildren(); return; }
  const done = state.finished.length > 0, cells = state.rows.find((r) => r.id === g.best)?.cells ?? {};
  const seed = Object.keys(cells).reduce((a, b) => ((cells[b].score ?? -Infinity) > (cells[a]?.score ?? -Infinity) ? b : a), String(state.seed));
  const text = {
    finish: done ? "The best wording passes the gate." : "Good enough: finish it.", rewrite: "Below the gate: it would be rewritten before GPU time is spent.", compare: "No gate with this judge: wordings are compared.",
  }[g.decision];
  $("gate").className = `gate ${g.decision}`;
  $("gate").replaceChildren(
    make("p", { class: "decision" }, make("b", {}, text)),
    make("dl", {}, make("div", {}, make("dt", {}, "best wording"), make("dd", {}, `${g.best}`)), make("div", {}, make("dt", {}, "predicted"), make("dd", {}, number(g.score, 3))),
      make("div", {}, make("dt", {}, "gate τ"), make("dd", {}, number(g.tau, 3)))),
    g.decision === "rewrite"
      ? make("button", { type: "button", class: "primary", on: { click: () => say("/rewrite") } }, "Rewrite it")
      : make("button", { type: "button", class: done ? "" : "primary", on: { click: () => say(`/finish ${g.best}@${seed}`) } }, `Finish wording ${g.best}${state.seeds.length > 1 ? `, seed ${seed}` : ""}`),
    g.decision !== "rewrite" && cells[seed] ? make("p", { class: "hint" }, costOf([cells[seed]])) : "");
}

function gallery() {
  $("finished").hidden = !state.finished.length;
  $("finished").querySelector("ul").replaceChildren(...state.finished.toReversed().map((done) => make("li", {},
    done.there ? make("img", { src: imageOf(state, done), alt: done.prompt, loading: "lazy", on: { error: (e) => e.target.replaceWith(make("span", { class: "gone" }, "image file gone")) } })
      : make("span", { class: "gone" }, "image file gone"),
    make("p", { class: "score" }, make("b", {}, number(done.reward ?? done.predicted)), make("span", { class: "pm" }, done.reward == null ? "predicted" : `reward, predicted ${number(done.predicted)}`), make("span", { class: "seed" }, `seed ${done.seed}`)),
    make("p", { class: "text" }, done.prompt),
    done.there ? make("p", { class: "links" },
      make("button", { type: "button", on: { click: () => beforeAfter(state, done) || complain("there is no picture of before on this seed") } }, "Before / after"),
      make("a", { href: imageOf(state, done), target: "_blank" }, "Image"), make("a", { href: imageOf(state, done, "record"), target: "_blank" }, "Record"),
      make("button", { type: "button", on: { click: () => openSheet("Replay", make("p", {}, "Makes the same picture again, from the record that the file carries:"), make("pre", { tabindex: 0 }, done.replay)) } }, "Replay")) : null)));
}

// What finishing cells takes, and whether steps are made again because what was paused went with the server.
function costOf(cells) {
  const steps = cells.reduce((sum, c) => sum + state.model.steps - (c.held ?? 0), 0);
  const again = cells.reduce((sum, c) => sum + Math.max(0, c.step - (c.held ?? 0)), 0);
  return `finishing takes ${steps} steps` + (again ? `, ${again} of them again: where they were paused is not kept when the server stops` : "");
}

function chosen() {
  const cells = [...selected].map((key) => key.split("@")).map(([id, seed]) => state?.rows.find((r) => String(r.id) === id)?.cells[seed]).filter(Boolean);
  $("cost").textContent = cells.length ? costOf(cells) : "";
  $("chosen").hidden = !selected.size;
  $("count-chosen").textContent = `${selected.size} selected`;
  document.querySelector("[data-do=compare]").disabled = selected.size !== 2;
  document.querySelector("[data-do=pick]").disabled = selected.size !== 1;
}

async function settings() {
  const groups = await ask("/page/settings");
  $("settings").replaceChildren(make("p", { class: "hint" }, "What this server was started with. Seeds and τ can be changed in the session (/tau, /seed); the rest by starting it with another option."),
    ...groups.map((g) => make("section", { class: "card" }, make("h2", {}, g.group), make("dl", {}, ...g.rows.flatMap((r) =>
      [make("dt", {}, r.name, make("code", {}, r.flag)), make("dd", {}, make("b", {}, r.value), make("span", { class: "hint" }, r.help))])))));
}

function view(which) {
  for (const id of ["session", "results", "settings"]) $(id).hidden = id !== which;
  document.querySelectorAll("[data-view]").forEach((b) => (b.dataset.view === which ? b.setAttribute("aria-current", "page") : b.removeAttribute("aria-current")));
  if (which === "results") loadResults();
  if (which === "settings") settings().catch((error) => complain(error.message));
}

// --- what the person does ----------------------------------------------------------------------------------------

function toggle(key) {
  if (selected.has(key)) selected.delete(key); else selected.add(key);
  document.querySelector(`[data-key="${CSS.escape(key)}"]`)?.setAttribute("aria-pressed", String(selected.has(key)));
  chosen();
}

function act(what) {
  const here = document.activeElement?.dataset?.key;
  const keys = selected.size ? [...selected] : here ? [here] : [];
  if (what === "clear") { selected.clear(); show(); return; }
  if (!keys.length) { complain("select a picture first"); return; }
  if (what === "compare" && keys.length !== 2) { complain("select two pictures to compare"); return; }
  if (what === "compare") compare(merged(), keys);
  else { selected.clear(); say(`/${what} ${(what === "pick" ? keys.slice(0, 1) : keys).join(" ")}`); show(); }
}

function move(from, event) {
  const word = from.classList.contains("word");
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  if (!step) return;
  event.preventDefault();
  const rows = [...document.querySelectorAll("#grid .row")];
  const row = rows.indexOf(from.closest(".row"));
  const inRow = (r) => [...(rows[r]?.querySelectorAll(word ? ".word" : "button.cell") ?? [])];
  const column = inRow(row).indexOf(from);
  const there = inRow(row + step[0])[Math.min(column + step[1], Math.max(0, inRow(row + step[0]).length - (step[0] ? 1 : 0)))];
  there?.focus();
}

function keyed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("sheet").open) return;
  const at = event.target;
  if (/^(INPUT|TEXTAREA|SELECT)$/.test(at.tagName)) { if (event.key === "Escape") at.blur(); return; }
  if (at.closest?.("#grid") && event.key.startsWith("Arrow")) { move(at, event); return; }
  const does = { f: "finish", c: "compare", p: "pick", x: "reject", l: "further", Escape: "clear" }[event.key];
  if ($("session").hidden) { if (event.key === "?") keys(); return; }
  if (does) act(does);
  else if (event.key === "r") say("/rewrite");
  else if (event.key === "u") say("/undo");
  else if (event.key === "/") { event.preventDefault(); $("prompt").focus(); }
  else if (event.key === "?") keys();
}

function keys() {
  openSheet("Keys", make("dl", { class: "told" }, ...KEYS.flatMap(([key, does]) => [make("dt", {}, make("kbd", {}, key)), make("dd", {}, does)])));
}

async function look(event) {
  event.preventDefault();
  const typed = $("prompt").value, text = typed.trim();
  if (!text) { complain("type a prompt first"); return; }
  $("prompt").dataset.typed = "yes";
  $("prompt").blur();
  if (!await say(state?.rows.length || text.startsWith("/") ? `/new ${text}` : text)) return;
  if ($("prompt").value === typed) delete $("prompt").dataset.typed;
  selected.clear();
  chosen();
}

async function add() {
  const typed = $("own").value;
  if (typed.trim() && await say(typed) && $("own").value === typed) $("own").value = "";
}

function go(to) {
  name = to;
  history.replaceState(null, "", `?session=${encodeURIComponent(name)}`);
  selected.clear();
  delete $("prompt").dataset.typed;
  state = null;
  refresh().then(listen);
}

$("compose").addEventListener("submit", look);
$("prompt").addEventListener("input", () => { $("prompt").dataset.typed = "yes"; });
$("prompt").addEventListener("keydown", (e) => { if (e.key === "Enter" && !e.shiftKey && !e.isComposing) look(e); });
$("tools").addEventListener("submit", (e) => { e.preventDefault(); say(`/rewrite ${$("wish").value}`); });
$("add").addEventListener("click", add);
$("own").addEventListener("keydown", (e) => { if (e.key === "Enter") { e.preventDefault(); $("add").click(); } });
$("seeds").addEventListener("change", () => say(`/seeds ${$("seeds").value}`));
$("undo").addEventListener("click", () => say("/undo"));
$("stop").addEventListener("click", () => ask("/page/stop", { session: name }).catch((error) => complain(error.message)));
$("sessions").addEventListener("change", () => go($("sessions").value));
$("other").addEventListener("click", () => {
  const field = make("input", { id: "session-name", maxlength: 64, pattern: "[\\p{L}\\p{N}_][\\p{L}\\p{N}_.\\-]*", autocomplete: "off" });
  const form = make("form", { class: "joined" }, field, make("button", { class: "primary" }, "Begin"));
  form.addEventListener("submit", (e) => { e.preventDefault(); $("sheet").close(); if (field.value) go(field.value); });
  openSheet("New session", make("label", { for: "session-name" }, "Name: letters, digits, dots and dashes"), form);
  field.focus();
});
$("grid").addEventListener("click", (e) => { const cell = e.target.closest("button.cell"); if (cell) toggle(cell.dataset.key); });
$("chosen").addEventListener("click", (e) => { const does = e.target.closest("[data-do]")?.dataset.do; if (does) act(does); });
$("keys").addEventListener("click", keys);
document.querySelectorAll("[data-view]").forEach((b) => b.addEventListener("click", () => view(b.dataset.view)));
document.addEventListener("keydown", keyed);
// A browser has few connections to a server: a tab that nobody sees gives its own back.
document.addEventListener("visibilitychange", () => { if (document.hidden) source?.close(); else refresh().then(listen); });
watchWords();
watchResults();
refresh().then(listen);
