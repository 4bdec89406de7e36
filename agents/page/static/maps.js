// Where the model looks for a word: small maps, fetched once a cell, drawn over its picture.

const kept = new Map();
// Dark blue to yellow, as in the heat maps of files.
const STOPS = [[13, 8, 60], [84, 20, 125], [180, 50, 105], [245, 120, 50], [252, 230, 100]];

export function wordsOf(key) {
  if (!kept.has(key)) {
    if (kept.size > 400) kept.delete(kept.keys().next().value);
    kept.set(key, fetch(`/page/cell/${key}.json`).then((a) => (a.ok ? a.json() : null)).catch(() => null));
  }
  return kept.get(key);
}

export function draw(canvas, told, word) {
  const { width, height } = told;
  const bytes = Uint8Array.from(atob(word.map), (c) => c.charCodeAt(0));
  const small = new OffscreenCanvas(width, height);
  const pen = small.getContext("2d");
  const image = pen.createImageData(width, height);
  bytes.forEach((value, i) => {
    const place = (value / 255) * (STOPS.length - 1);
    const first = Math.min(Math.floor(place), STOPS.length - 2);
    for (let k = 0; k < 3; k++) image.data[4 * i + k] = STOPS[first][k] + (place - first) * (STOPS[first + 1][k] - STOPS[first][k]);
    image.data[4 * i + 3] = 50 + value * 0.62;
  });
  pen.putImageData(image, 0, 0);
  canvas.width = canvas.height = 160;
  const large = canvas.getContext("2d");
  large.imageSmoothingQuality = "high";
  large.drawImage(small, 0, 0, canvas.width, canvas.height);
}

// What the maps of a word say, over the seeds that are shown.
export function verdict(found) {
  const range = [...new Set([Math.min, Math.max].map((f) => f(...found.map((w) => w.focus)).toFixed(2)))].join(" to ");
  const missing = found.filter((w) => w.diffuse).map((w) => w.seed);
  const where = missing.length === found.length ? "" : ` on seed ${missing.join(", ")}`;
  return `“${found[0].word}”: focus ${range}${missing.length ? `, so diffuse that it may be missing${where}` : ""}`;
}
