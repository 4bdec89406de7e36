// The results of batches: a grid of every image, sorted and filtered here.

import { $, ask, complain, make, number, openSheet } from "./dom.js";

const PAGE = 120; // pictures drawn at once
let rows = [], shown = PAGE, folder = 0;

export function watchResults() {
  for (const id of ["search", "only", "sort"]) $(id).addEventListener("input", () => { shown = PAGE; drawResults(); });
  $("turn").addEventListener("click", () => {
    $("turn").setAttribute("aria-pressed", String($("turn").getAttribute("aria-pressed") !== "true"));
    drawResults();
  });
  $("more").addEventListener("click", () => { shown += PAGE; drawResults(); });
  $("folder").addEventListener("input", () => loadResults(Number($("folder").value)));
}

export function nameFolders(names) {
  $("folder").replaceChildren(...names.map((name, i) => make("option", { value: i }, name)));
}

export async function loadResults(number = folder) {
  folder = number;
  try {
    rows = (await ask(`/page/results/${folder}`)).rows;
  } catch (error) {
    complain(error.message);
    rows = [];
  }
  shown = PAGE;
  drawResults();
}

const KINDS = {
  all: () => true, changed: (r) => r.unchanged === false, same: (r) => r.unchanged === true,
  error: (r) => Boolean(r.error), gone: (r) => !r.there && !r.error,
};

function drawResults() {
  const words = $("search").value.toLocaleLowerCase().split(/\s+/).filter(Boolean);
  const by = $("sort").value, turned = $("turn").getAttribute("aria-pressed") === "true";
  const found = rows.filter(KINDS[$("only").value]).filter((r) => {
    const text = `${r.prompt} ${r.best_prompt}`.toLocaleLowerCase();
    return words.every((w) => text.includes(w));
  });
  const down = (by === "reward" || by === "predicted_reward") !== turned;
  found.sort((a, b) => {
    if (by === "prompt") return String(a.prompt).localeCompare(String(b.prompt)) * (turned ? -1 : 1);
    const [x, y] = [a[by], b[by]];
    if (x == null || y == null) return (x == null) - (y == null);
    return down ? y - x : x - y;
  });
  $("count").textContent = `${found.length} of ${rows.length} results`;
  $("pictures").replaceChildren(...found.slice(0, shown).map(card));
  $("more").hidden = found.length <= shown;
}

function gone(text) {
  return make("span", { class: "gone" }, text);
}

function imageAt(row, side) {
  return `/page/results/${folder}/image?image=${encodeURIComponent(row.image)}${side ? `&side=${side}` : ""}`;
}

function card(row) {
  const frame = make("span", { class: "frame" });
  if (row.there) {
    frame.append(make("img", { src: imageAt(row, 256), alt: "", loading: "lazy", on: { error: (e) => e.target.replaceWith(gone("image file gone")) } }));
  } else frame.append(gone(row.error ? "failed" : "image file gone"));
  return make("li", {}, make("button", { type: "button", class: "cell", "aria-label": `${row.best_prompt ?? row.prompt}, reward ${number(row.reward)}`, on: { click: () => open(row) } },
    frame, make("span", { class: "score" }, make("b", {}, number(row.reward ?? row.predicted_reward)),
      make("span", { class: "pm" }, row.reward == null ? "predicted" : `predicted ${number(row.predicted_reward)}`)),
    make("span", { class: "text" }, row.best_prompt ?? row.prompt ?? "")));
}

function open(row) {
  const facts = [
    ["Prompt", row.prompt], ["Best prompt", row.unchanged ? "as it is" : row.best_prompt],
    ["Reward", row.reward == null ? null : `${number(row.reward, 3)} ${row.reward_label ?? ""}`], ["Predicted", number(row.predicted_reward, 3)],
    ["Seed", row.seed], ["Stopped", row.stop_reason], ["Denoiser calls", row.calls], ["Error", row.error],
    ["Record", row.there ? row.show : ""], ["Replay", row.there ? row.replay : ""],
  ].filter(([, value]) => value !== null && value !== undefined && value !== "");
  openSheet(`Result ${row.number + 1}`,
    row.there ? make("img", { class: "large", src: imageAt(row), alt: row.best_prompt ?? "" }) : gone(row.error ? "failed" : "image file gone"),
    make("dl", { class: "told" }, ...facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))])));
}
