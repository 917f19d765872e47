// What can be taken away: JSON, an annotated picture, COCO, and a report that needs neither the server nor the net.

import { colourOf, INFERNO } from "./colours.js";
import { byId, fill, h } from "./dom.js";
import { load } from "./pictures.js";
import { reportPage } from "./report.js";
import { dropMap, explain } from "./sending.js";
import { current, modelInfo, notify, state } from "./store.js";
import { summit } from "./viewer.js";
import { findings, nearMisses, percent, title } from "./words.js";

const stem = (name) => name.replace(/\.[^.]*$/, "").replace(/[^\p{L}\p{N}._-]+/gu, "_").slice(0, 80) || "photograph";

function save(name, blob) {
  const url = URL.createObjectURL(blob);
  const link = h("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

const json = (value) => new Blob([JSON.stringify(value, null, 2)], { type: "application/json" });

// The photograph with outlines, as large as `most` pixels on its longer side. `named`: with type and score beside
// each number; without, for where a table stands below it.
export async function annotated(item, { most = Infinity, named = true } = {}) {
  const [height, width] = item.result.size_hw;
  const image = await load(item.shown ?? item.url);
  const scale = Math.min(1, most / Math.max(width, height));
  const canvas = h("canvas", { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) });
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  const unit = (Math.max(canvas.width, canvas.height) / 800) * (named ? 1 : 1.7); // a report shows it small
  const letters = Math.max(10, 14 * unit);
  const pad = letters / 4;
  context.lineJoin = "round";
  context.font = `600 ${letters}px "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif`;
  context.textBaseline = "middle";
  const below = new Set(nearMisses(item.result));
  const shown = [...findings(item.result), ...below];
  for (const object of shown) {
    context.beginPath();
    for (const ring of object.polygons?.length ? object.polygons : [box(object.box_xyxy)]) {
      ring.forEach(([x, y], i) => (i ? context.lineTo(x * scale, y * scale) : context.moveTo(x * scale, y * scale)));
      context.closePath();
    }
    context.setLineDash(below.has(object) ? [3 * unit, 5 * unit] : []);
    context.lineWidth = 4.5 * unit;
    context.strokeStyle = "rgb(0 0 0 / 0.75)";
    context.stroke();
    context.lineWidth = 2.2 * unit;
    context.strokeStyle = colourOf(item.result, object.label);
    context.stroke();
  }
  // The words last, so that no outline runs through them.
  for (const object of shown) {
    const text = named ? `${object.id} ${title(object.title)} ${percent(object.score)}` : String(object.id);
    const [wide, tall] = [context.measureText(text).width + 2 * pad, letters + pad];
    const [left, top] = summit(object);
    const x = Math.min(Math.max(left * scale, 0), Math.max(canvas.width - wide, 0));
    const y = Math.max(top * scale - tall - 2 * unit, 0);
    context.fillStyle = "rgb(0 0 0 / 0.78)";
    context.fillRect(x, y, wide, tall);
    context.fillStyle = "#fff";
    context.fillText(text, x + pad, y + tall / 2);
  }
  return canvas;
}

// The photograph under its map, as the page shows it at the sliders' settings.
async function mapped(item, most) {
  const [height, width] = item.result.size_hw;
  const [image, heat] = await Promise.all([load(item.shown ?? item.url), load(item.map.url)]);
  const scale = Math.min(1, most / Math.max(width, height));
  const canvas = h("canvas", { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(heat, 0, 0, canvas.width, canvas.height);
  const over = context.getImageData(0, 0, canvas.width, canvas.height);
  const colours = Array.from({ length: 256 }, (_, value) => heatColour(value / 255));
  for (let i = 0; i < over.data.length; i += 4) over.data.set(colours[over.data[i]], i);
  const layer = h("canvas", { width: canvas.width, height: canvas.height });
  layer.getContext("2d").putImageData(over, 0, 0);
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  context.drawImage(layer, 0, 0);
  return canvas;
}

// Red, green, blue and opacity, 0 to 255, of a place that mattered so much.
function heatColour(value) {
  const at = value * (INFERNO.length - 1);
  const low = INFERNO[Math.floor(at)];
  const high = INFERNO[Math.ceil(at)];
  return [...low.map((v, i) => v + (high[i] - v) * (at - Math.floor(at))), value >= state.map.from ? 255 * state.map.opacity : 0];
}

const box = ([x1, y1, x2, y2]) => [[x1, y1], [x2, y1], [x2, y2], [x1, y2]];

const ringArea = (ring) => Math.abs(ring.reduce((sum, [x, y], i) => {
  const [nextX, nextY] = ring[(i + 1) % ring.length];
  return sum + x * nextY - nextX * y;
}, 0) / 2);

// COCO's polygons are filled one by one, so a hole would be lost in them: then it is a run-length code instead.
function segmentation(object, [height, width]) {
  const rings = object.polygons ?? [];
  const filled = rings.reduce((sum, ring) => sum + ringArea(ring), 0);
  if (rings.length < 2 || filled <= 1.02 * object.area + 4) return rings.map((ring) => ring.flat());
  const context = h("canvas", { width, height }).getContext("2d");
  for (const ring of rings) {
    ring.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
    context.closePath();
  }
  context.fill("evenodd");
  const { data } = context.getImageData(0, 0, width, height);
  const counts = [0];
  let inside = false;
  for (let x = 0; x < width; x += 1) {
    for (let y = 0; y < height; y += 1) {
      if ((data[4 * (y * width + x) + 3] > 127) !== inside) {
        inside = !inside;
        counts.push(0);
      }
      counts[counts.length - 1] += 1;
    }
  }
  return { size: [height, width], counts };
}

export function coco(items) {
  const results = items.map((item) => item.result);
  const named = new Set(results.flatMap((r) => r.labels.map((l) => l.label)));
  const names = named.size ? [...named] : ["object"];
  let id = 0;
  return {
    info: { description: "Findings by Blemish; the scores are the model's", model: results[0].model_version, date_created: new Date().toISOString() },
    images: items.map((item, i) => ({ id: i + 1, file_name: item.name, width: item.result.size_hw[1], height: item.result.size_hw[0] })),
    categories: names.map((name, i) => ({ id: i + 1, name })),
    annotations: items.flatMap((item, i) => findings(item.result).map((o) => ({
      id: ++id,
      image_id: i + 1,
      category_id: Math.max(names.indexOf(o.label), 0) + 1,
      bbox: [o.box_xyxy[0], o.box_xyxy[1], o.box_xyxy[2] - o.box_xyxy[0], o.box_xyxy[3] - o.box_xyxy[1]],
      area: o.area,
      iscrowd: 0,
      score: o.score,
      segmentation: segmentation(o, item.result.size_hw),
    }))),
  };
}

const everything = () => state.photographs.filter((p) => p.result);

// A model that says only what, and not where, has its maps in the report: those that nobody has looked at are
// made now. Maps of a detector take long, so only those that somebody has asked for are there.
async function makeMaps(items) {
  const missing = items.filter((item) => !item.result.objects && modelInfo(item.result.model)?.maps && !item.map && !item.mapProblem);
  let stopped = false;
  const stop = (item) => {
    stopped = true;
    dropMap(item);
    notify(null);
  };
  for (const [done, item] of missing.entries()) {
    if (stopped) return;
    // A single one is there at once: words that flash by help nobody.
    if (done || missing.length > 3) notify(`Making the maps for the report, ${done + 1} of ${missing.length}.`, "Leave the rest out", () => stop(item), { calm: true });
    await explain(item, item.mapLabel, { quiet: true });
  }
  if (missing.length && !stopped) notify(null);
}

// The picture as a data URL; null for a format that browsers cannot show, from a server that gives no pictures.
async function embedded(drawing) {
  try {
    return (await drawing).toDataURL("image/jpeg", 0.85);
  } catch {
    return null;
  }
}

export async function saveReport(items) {
  await makeMaps(items);
  const pictures = await Promise.all(items.map(async (item) => ({
    photograph: await embedded(annotated(item, { most: 1400, named: false })),
    map: item.map && !item.map.empty ? await embedded(mapped(item, 1000)) : null,
  })));
  const name = items.length === 1 ? stem(items[0].name) : `${items.length}-photographs`;
  save(`blemish-${name}.html`, new Blob([reportPage(items, pictures)], { type: "text/html" }));
}

async function savePicture(item) {
  try {
    const canvas = await annotated(item);
    const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
    if (!blob) throw new Error("too large");
    save(`${stem(item.name)}-findings.png`, blob);
  } catch {
    notify(`The picture of ${item.name} cannot be made: this browser cannot show it.`, "Close", () => notify(null));
  }
}

export function drawDownloads() {
  const item = current();
  if (!item?.result) {
    fill(byId("downloads"));
    return;
  }
  const all = everything();
  const button = (key, text, name, act) => h("button", { type: "button", "data-key": key, "aria-label": name, onclick: act }, text);
  fill(byId("downloads"),
    h("span", { class: "quiet" }, all.length > 1 ? "This one" : "Download"),
    h("div", { class: "row-of-buttons", "data-key": "one" },
      button("save-report", "Report", "Report of this photograph", () => saveReport([item])),
      button("save-png", "PNG", "PNG: this photograph with its findings", () => savePicture(item)),
      button("save-json", "JSON", "JSON of this photograph", () => save(`${stem(item.name)}.json`, json(item.result))),
      item.result.objects && button("save-coco", "COCO", "COCO of this photograph", () => save(`${stem(item.name)}-coco.json`, json(coco([item]))))),
    all.length > 1 && h("span", { class: "quiet" }, `All ${all.length}`),
    all.length > 1 && h("div", { class: "row-of-buttons", "data-key": "all" },
      button("save-report-all", "Report", "Report of all photographs", () => saveReport(all)),
      button("save-json-all", "JSON", "JSON of all photographs", () => save("findings.json", json(all.map((p) => ({ name: p.name, ...p.result }))))),
      all.some((p) => p.result.objects) && button("save-coco-all", "COCO", "COCO of all photographs", () => save("findings-coco.json", json(coco(all.filter((p) => p.result.objects)))))));
}
