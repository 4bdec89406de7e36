// Wordings in rows, seeds in columns. Every cell is a button with the picture, the score and its interval.

import { $, make, number, svg } from "./dom.js";
import { draw, verdict, wordsOf } from "./maps.js";

const SURE = 1.2816; // standard errors of an interval that holds eight of ten
const LONG = 400; // letters of a wording that may have to be scrolled
export const selected = new Set();
export const place = (row, seed) => `${row}@${seed}`;

export function pictureOf(state, row, seed) {
  const cell = row.cells[seed];
  const done = finishedOf(state, row, seed);
  if (done?.there) return { src: imageOf(state, done), finished: done };
  return { src: cell?.picture ? `/page/cell/${cell.picture}.webp` : null, finished: done };
}

export const finishedOf = (state, row, seed) =>
  state.finished.findLast((f) => f.prompt === row.prompt && f.seed === Number(seed));

export const imageOf = (state, done, what = "file") =>
  `/page/image/${done.number}/${what}?session=${encodeURIComponent(state.session)}&of=${encodeURIComponent(done.name)}`;

function scaleOf(state) {
  const all = state.rows.flatMap((r) => Object.values(r.cells)).filter((c) => c.score !== null);
  const ends = all.flatMap((c) => [c.score - SURE * (c.error ?? 0), c.score + SURE * (c.error ?? 0)]);
  if (state.tau !== null) ends.push(state.tau);
  if (state.scale) ends.push(...state.scale);
  const low = Math.min(...ends), high = Math.max(...ends);
  const room = Math.max((high - low) * 0.04, 1e-6);
  return (value) => 100 * Math.min(1, Math.max(0, (value - low + room) / (high - low + 2 * room)));
}

function bar(cell, tau, scale) {
  const at = (v) => `${scale(v).toFixed(2)}%`;
  const node = svg("svg", { class: "bar", width: "100%", height: "10", "aria-hidden": "true" });
  node.append(svg("rect", { class: "track", x: 0, y: 4, width: "100%", height: 2, rx: 1 }));
  if (cell.error !== null) {
    const low = scale(cell.score - SURE * cell.error), high = scale(cell.score + SURE * cell.error);
    node.append(svg("rect", { class: "interval", x: `${low}%`, y: 2.5, width: `${Math.max(1, high - low)}%`, height: 5, rx: 2.5 }));
  }
  if (tau !== null) node.append(svg("line", { class: "tau", x1: at(tau), x2: at(tau), y1: 0, y2: 10 }));
  node.append(svg("circle", { class: "point", cx: at(cell.score), cy: 5, r: 4 }));
  return node;
}

function cellOf(state, row, seed, scale) {
  const cell = row.cells[seed], key = place(row.id, seed);
  if (!cell) return make("div", { class: "cell waiting" }, make("span", { class: "frame" }), make("span", { class: "hint" }, "waiting"));
  const { src, finished } = pictureOf(state, row, seed);
  const rejected = state.rejected.includes(String(row.id)) || state.rejected.includes(key);
  const why = rejected ? "rejected" : cell.why;
  const current = state.current === row.id && state.seed === Number(seed);
  const interval = cell.error === null || cell.score === null ? "" : `± ${number(SURE * cell.error)}`;
  const said = `Wording ${row.id}, seed ${seed}: predicted ${number(cell.score, 3)} ${interval} at step ${cell.step}` +
    (finished ? `, finished, reward ${number(finished.reward, 3)}` : "") + (why ? `, ${why}` : "");
  const frame = make("span", { class: "frame" });
  if (src) {
    frame.append(make("img", { src, alt: "", loading: "lazy", on: { error: (e) => e.target.replaceWith(make("span", { class: "gone" }, "picture gone")) } }));
  } else frame.append(make("span", { class: "gone" }, finished && !finished.there ? "image file gone" : "no preview"));
  frame.append(make("canvas", { class: "map", hidden: true, "data-words": cell.words ?? "" }));
  if (finished) frame.append(make("span", { class: "badge done" }, "finished"));
  else if (cell.best) frame.append(make("span", { class: "badge best" }, "best"));
  return make("button", {
    type: "button", class: ["cell", why && !finished ? "lost" : "", current ? "current" : ""].join(" "), "data-key": key,
    "data-row": row.id, "data-seed": seed, "aria-pressed": String(selected.has(key)), "aria-label": said, disabled: row.id === null,
  }, frame,
  make("span", { class: "score" }, make("b", {}, number(cell.score)), make("span", { class: "pm" }, interval),
    make("span", { class: "seed" }, `seed ${seed}`)),
  cell.score === null ? null : bar(cell, state.tau, scale),
  finished?.reward != null ? make("span", { class: "real" }, `reward ${number(finished.reward)}`) : null,
  make("span", { class: "why" }, why ? why[0].toUpperCase() + why.slice(1) : `at step ${cell.step}${current ? ", current" : ""}`));
}

function facts(row) {
  if (!row.facts?.length) return null;
  if (row.strategy === "as it is") {
    return make("ul", { class: "facts asked", "aria-label": "What was asked for" }, ...row.facts.map((f) => make("li", {}, f.text)));
  }
  const count = (v) => row.facts.filter((f) => f.verdict === v);
  const parts = ["kept", "unsure", "lost"].map((v) => [v, count(v)]).filter(([, list]) => list.length);
  return make("ul", { class: "facts", "aria-label": "Facts of the prompt" }, ...parts.map(([v, list]) =>
    make("li", { class: v, title: list.map((f) => f.text).join(", ") }, `${list.length} ${v}`, v === "kept" ? "" : `: ${list.map((f) => f.text).join(", ")}`)));
}

function wording(row) {
  const line = make("p", { class: "wording", tabindex: row.prompt.length > LONG ? 0 : null }, row.prompt);
  const keys = Object.values(row.cells).map((c) => c.words).filter(Boolean);
  if (keys.length) Promise.all(keys.map(wordsOf)).then((all) => spell(line, row.prompt, all.filter(Boolean)));
  return line;
}

// The words of a wording, marked where at least half of its seeds may lack what they name.
function spell(line, prompt, all) {
  if (!all.length) return;
  const told = { words: all[0].words.map((w, i) => ({ ...w, diffuse: 2 * all.filter((a) => a.words[i]?.diffuse).length >= all.length })) };
  const parts = [];
  let at = 0;
  const letters = [...prompt]; // places count characters, not halves of them
  told.words.forEach((word, i) => {
    parts.push(letters.slice(at, word.start).join(""));
    parts.push(make("button", {
      type: "button", class: word.diffuse ? "word diffuse" : "word", "data-word": word.start, tabindex: i ? -1 : 0,
      "aria-label": word.diffuse ? `${word.word}, may be missing` : false,
    }, letters.slice(word.start, word.end).join("")));
    at = word.end;
  });
  line.replaceChildren(...parts, letters.slice(at).join(""));
}

async function showWord(button) {
  const row = button.closest(".row");
  const tell = row.querySelector(".about"), found = [];
  for (const canvas of row.querySelectorAll("canvas.map")) {
    if (!canvas.dataset.words) continue;
    const told = await wordsOf(canvas.dataset.words);
    const word = told?.words.find((w) => String(w.start) === button.dataset.word);
    if (!word || !button.isConnected || row.dataset.word !== button.dataset.word) continue;
    draw(canvas, told, word);
    canvas.hidden = false;
    found.push({ ...word, seed: canvas.closest("button").dataset.seed });
    tell.textContent = verdict(found);
  }
}

export function watchWords() {
  const grid = $("grid");
  const enter = (event) => {
    const button = event.target.closest?.(".word");
    if (!button) return;
    const row = button.closest(".row");
    row.dataset.word = button.dataset.word;
    row.querySelector(".about").textContent = "";
    showWord(button);
  };
  const leave = (event) => {
    const row = event.target.closest?.(".word")?.closest(".row");
    if (!row) return;
    delete row.dataset.word;
    row.querySelectorAll("canvas.map").forEach((c) => { c.hidden = true; });
    row.querySelector(".about").textContent = "";
  };
  grid.addEventListener("mouseover", enter);
  grid.addEventListener("mouseout", leave);
  grid.addEventListener("focusin", enter);
  grid.addEventListener("focusout", leave);
}

export function drawGrid(state) {
  const grid = $("grid"), scale = scaleOf(state);
  const focused = document.activeElement?.dataset?.key;
  grid.style.setProperty("--columns", state.seeds.length);
  grid.dataset.columns = state.seeds.length;
  grid.replaceChildren(...state.rows.map((row) => {
    const name = row.id === null ? "…" : String(row.id);
    return make("section", { class: "row", "aria-label": `Wording ${name}` },
      make("div", { class: "head" },
        make("p", { class: "strategy" }, make("b", { class: "n" }, name), ` ${row.strategy}`,
          state.current === row.id ? make("span", { class: "mark" }, "current") : null),
        wording(row), facts(row),
        row.unsure?.length && !row.facts?.some((f) => f.verdict === "unsure") ? make("p", { class: "hint" }, `unsure: ${row.unsure.join(", ")}`) : null,
        row.cut ? make("p", { class: "warn" }, `the last ${row.cut} tokens did not fit`) : null,
        ...(row.notes ?? []).map((n) => make("p", { class: "warn" }, n.match(/unknown here: [^;]+/)?.[0].replace("unknown here", "can't be drawn here") ?? n)),
        make("p", { class: "about", "aria-live": "polite" })),
      make("div", { class: "cells" }, ...state.seeds.map((seed) => cellOf(state, row, seed, scale))));
  }));
  if (focused) grid.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}
