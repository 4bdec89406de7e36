// Two pictures under a slider, moved with mouse, finger or keys.

import { make, number, openSheet } from "./dom.js";
import { imageOf, pictureOf } from "./grid.js";

export function slider(title, left, right) {
  const range = make("input", { type: "range", min: 0, max: 100, value: 50, "aria-label": "How much of the left picture is shown, in percent" });
  const box = make("div", { class: "slider" },
    make("img", { src: right.src, alt: right.alt, class: "under" }), make("img", { src: left.src, alt: left.alt, class: "over" }), make("span", { class: "edge" }), range);
  box.style.setProperty("--at", "50%");
  range.addEventListener("input", () => box.style.setProperty("--at", `${range.value}%`));
  openSheet(title, box, make("div", { class: "sides" },
    make("p", {}, make("b", {}, left.head), make("span", {}, left.text)), make("p", {}, make("b", {}, right.head), make("span", {}, right.text))));
  range.focus();
}

function side(state, row, seed) {
  const { src, finished } = pictureOf(state, row, seed), cell = row.cells[seed];
  const measured = finished?.reward != null ? `, reward ${number(finished.reward, 3)}` : "";
  return {
    src, alt: `Wording ${row.id} on seed ${seed}`, text: row.prompt,
    head: `${row.id} on seed ${seed}: predicted ${number(cell.score, 3)}${measured}${finished ? "" : `, as it is at step ${cell.step}`}`,
  };
}

export function compare(state, keys) {
  const [a, b] = keys.slice(0, 2).map((key) => {
    const [id, seed] = key.split("@");
    return side(state, state.rows.find((r) => String(r.id) === id), seed);
  });
  slider("Compare", a, b);
}

export function beforeAfter(state, done) {
  const own = state.rows[0], seed = done.seed;
  const after = { src: imageOf(state, done), alt: "After", text: done.prompt, head: `after: reward ${number(done.reward, 3)}` };
  const first = own.prompt === done.prompt ? null : pictureOf(state, own, seed).src;
  const row = first ? own : state.rows.find((r) => r.prompt === done.prompt);
  const cell = row?.cells[seed];
  const before = first
    ? { ...side(state, own, seed), alt: "Before" }
    : { src: cell?.picture ? `/page/cell/${cell.picture}.webp` : null, alt: "Before", text: "what it was heading for", head: `before: at step ${cell?.step ?? "–"}` };
  if (!before.src) return false;
  slider("Before and after", before, after);
  return true;
}
