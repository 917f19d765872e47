// Downloads: JSON, an annotated image, COCO, and a report that needs neither the server nor the internet.

import { INFERNO, labelColor } from "./colors.js";
import { byId, fill, h } from "./dom.js";
import { context2d, loadImage } from "./images.js";
import { badgePosition } from "./outlines.js";
import { t } from "./language.js";
import { reportHtml } from "./report.js";
import { save } from "./save.js";
import { currentPhoto, findModel, imageUrl, notify, state } from "./state.js";
import { displayName, findings, nearMisses, percent } from "./text.js";
import { dropHeatmap, requestHeatmap } from "./uploads.js";

/** @param {string} name of a file */
const stem = (name) => name.replace(/\.[^.]*$/, "").replace(/[^\p{L}\p{N}._-]+/gu, "_").slice(0, 80) || "photo";

/** @param {any} value */
const jsonBlob = (value) => new Blob([JSON.stringify(value, null, 2)], { type: "application/json" });

/**
 * Return an empty canvas with the proportions of a photo.
 * @param {PredictionResponse} result
 * @param {number} maxSide pixels
 * @returns {[HTMLCanvasElement, number]} the canvas, and its scale
 */
function canvasFor(result, maxSide) {
  const [height, width] = result.size_hw;
  const scale = Math.min(1, maxSide / Math.max(width, height));
  return [h("canvas", { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) }), scale];
}

/**
 * Return the photo with the outlines of its findings.
 * @param {ReadyPhoto} photo
 * @param {{ maxSide?: number, named?: boolean }} [options] `named`: with type and confidence beside each number; without
 *   them for a report, in which a table follows
 */
export async function annotatedImage(photo, { maxSide = Infinity, named = true } = {}) {
  const { result } = photo;
  const image = await loadImage(imageUrl(photo));
  const [canvas, scale] = canvasFor(result, maxSide);
  const context = context2d(canvas);
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  const unit = (Math.max(canvas.width, canvas.height) / 800) * (named ? 1 : 1.7); // a report shows it small
  const fontSize = Math.max(10, 14 * unit);
  const padding = fontSize / 4;
  context.lineJoin = "round";
  context.font = `600 ${fontSize}px "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif`;
  context.textBaseline = "middle";
  const below = new Set(nearMisses(result));
  const shown = [...findings(result), ...below];
  for (const detection of shown) {
    context.beginPath();
    for (const ring of detection.polygons?.length ? detection.polygons : [boxCorners(detection.box_xyxy)]) {
      ring.forEach(([x, y], i) => (i ? context.lineTo(x * scale, y * scale) : context.moveTo(x * scale, y * scale)));
      context.closePath();
    }
    context.setLineDash(below.has(detection) ? [3 * unit, 5 * unit] : []);
    context.lineWidth = 4.5 * unit;
    context.strokeStyle = "rgb(0 0 0 / 0.75)";
    context.stroke();
    context.lineWidth = 2.2 * unit;
    context.strokeStyle = labelColor(result, detection.label);
    context.stroke();
  }
  // The text last, so that no outline crosses it.
  for (const detection of shown) {
    const text = named ? `${detection.id} ${displayName(detection)} ${percent(detection.score)}` : String(detection.id);
    const [width, height] = [context.measureText(text).width + 2 * padding, fontSize + padding];
    const [left, top] = badgePosition(detection);
    const x = Math.min(Math.max(left * scale, 0), Math.max(canvas.width - width, 0));
    const y = Math.max(top * scale - height - 2 * unit, 0);
    context.fillStyle = "rgb(0 0 0 / 0.78)";
    context.fillRect(x, y, width, height);
    context.fillStyle = "#fff";
    context.fillText(text, x + padding, y + height / 2);
  }
  return canvas;
}

/**
 * Return the photo under its heatmap, as the page shows it with the current settings of the sliders.
 * @param {ReadyPhoto} photo
 * @param {PageHeatmap} heatmap
 * @param {number} maxSide
 */
async function heatmapImage(photo, heatmap, maxSide) {
  const [image, values] = await Promise.all([loadImage(imageUrl(photo)), loadImage(heatmap.url)]);
  const [canvas] = canvasFor(photo.result, maxSide);
  const context = context2d(canvas, { willReadFrequently: true });
  context.drawImage(values, 0, 0, canvas.width, canvas.height);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  const colors = Array.from({ length: 256 }, (_, value) => heatmapColor(value / 255));
  for (let i = 0; i < pixels.data.length; i += 4) pixels.data.set(colors[pixels.data[i]], i);
  const layer = h("canvas", { width: canvas.width, height: canvas.height });
  context2d(layer).putImageData(pixels, 0, 0);
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  context.drawImage(layer, 0, 0);
  return canvas;
}

/**
 * @param {number} value 0 to 1
 * @returns {number[]} red, green, blue and opacity, 0 to 255
 */
function heatmapColor(value) {
  const position = value * (INFERNO.length - 1);
  const low = INFERNO[Math.floor(position)];
  const high = INFERNO[Math.ceil(position)];
  const opacity = value >= state.heatmap.minimum ? 255 * state.heatmap.opacity : 0;
  return [...low.map((v, i) => v + (high[i] - v) * (position - Math.floor(position))), opacity];
}

/** @param {number[]} box */
const boxCorners = ([x1, y1, x2, y2]) => [[x1, y1], [x2, y1], [x2, y2], [x1, y2]];

/** @param {number[][]} ring */
const ringArea = (ring) => Math.abs(ring.reduce((sum, [x, y], i) => {
  const [nextX, nextY] = ring[(i + 1) % ring.length];
  return sum + x * nextY - nextX * y;
}, 0) / 2);

/**
 * Return the mask of a detection as COCO's `segmentation`. COCO fills polygons one by one, so a hole would be lost in
 * them: such a mask becomes a run-length code.
 * @param {Detection} detection
 * @param {number[]} size
 */
function cocoSegmentation(detection, [height, width]) {
  const rings = detection.polygons ?? [];
  const filledArea = rings.reduce((sum, ring) => sum + ringArea(ring), 0);
  if (rings.length < 2 || filledArea <= 1.02 * detection.area + 4) return rings.map((ring) => ring.flat());
  const context = context2d(h("canvas", { width, height }));
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

/** @param {ReadyPhoto[]} photos */
export function cocoDataset(photos) {
  const labels = new Set(photos.flatMap((photo) => photo.result.labels.map((l) => l.label)));
  const names = labels.size ? [...labels] : ["object"];
  let id = 0;
  return {
    info: { description: "Findings of Blemish with the scores of the model", model: photos[0].result.model_version, date_created: new Date().toISOString() },
    images: photos.map(({ name, result }, i) => ({ id: i + 1, file_name: name, width: result.size_hw[1], height: result.size_hw[0] })),
    categories: names.map((name, i) => ({ id: i + 1, name })),
    annotations: photos.flatMap(({ result }, i) => findings(result).map((d) => ({
      id: ++id,
      image_id: i + 1,
      category_id: Math.max(names.indexOf(d.label ?? ""), 0) + 1,
      bbox: [d.box_xyxy[0], d.box_xyxy[1], d.box_xyxy[2] - d.box_xyxy[0], d.box_xyxy[3] - d.box_xyxy[1]],
      area: d.area,
      iscrowd: 0,
      score: d.score,
      segmentation: cocoSegmentation(d, result.size_hw),
    }))),
  };
}

/** @returns {ReadyPhoto[]} */
const readyPhotos = () => state.photos.filter(/** @type {(p: Photo) => p is ReadyPhoto} */ ((p) => p.result !== null));

/**
 * Request the missing heatmaps of a report. Only a model without detections needs one for each photo; heatmaps of a
 * detector take long, so the report contains only those that have been requested already.
 * @param {ReadyPhoto[]} photos
 */
async function addHeatmaps(photos) {
  const missing = photos.filter((p) => !p.result.detections && findModel(p.result.model)?.heatmaps && !p.heatmap && !p.heatmapProblem);
  let stopped = false;
  /** @param {Photo} photo */
  const stop = (photo) => {
    stopped = true;
    dropHeatmap(photo);
    notify(null);
  };
  for (const [done, photo] of missing.entries()) {
    if (stopped) return;
    // A few are ready at once, and a message that disappears immediately helps no reader.
    if (done || missing.length > 3) notify(t("download.heatmaps", { i: done + 1, n: missing.length }), t("download.skip"), () => stop(photo), { info: true });
    await requestHeatmap(photo, photo.heatmapLabel, { quiet: true });
  }
  if (missing.length && !stopped) notify(null);
}

/**
 * Return an image as a data URL, or null for a file that the browser cannot show.
 * @param {Promise<HTMLCanvasElement>} canvas
 */
async function dataUrl(canvas) {
  try {
    return (await canvas).toDataURL("image/jpeg", 0.85);
  } catch {
    return null;
  }
}

/** @param {Photo[]} photos */
export async function saveReport(photos) {
  const ready = photos.filter(/** @type {(p: Photo) => p is ReadyPhoto} */ ((p) => p.result !== null));
  await addHeatmaps(ready);
  const images = await Promise.all(ready.map(async (photo) => ({
    photo: await dataUrl(annotatedImage(photo, { maxSide: 1400, named: false })),
    heatmap: photo.heatmap && !photo.heatmap.empty ? await dataUrl(heatmapImage(photo, photo.heatmap, 1000)) : null,
  })));
  const name = ready.length === 1 ? stem(ready[0].name) : `${ready.length}-photos`;
  save(`blemish-${name}.html`, new Blob([reportHtml(ready, images)], { type: "text/html" }));
}

/** @param {ReadyPhoto} photo */
async function saveImage(photo) {
  try {
    const canvas = await annotatedImage(photo);
    /** @type {Blob | null} */
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    if (!blob) throw new Error("the canvas is too large");
    save(`${stem(photo.name)}-findings.png`, blob);
  } catch {
    notify(t("download.noImage", { name: photo.name }), t("dialog.close"), () => notify(null));
  }
}

export function drawDownloads() {
  const current = currentPhoto();
  const all = readyPhotos();
  const photo = all.find((p) => p === current);
  if (!photo) {
    fill(byId("downloads"));
    return;
  }
  const withDetections = all.filter((p) => p.result.detections);
  /** @type {(key: string, text: string, label: string, onClick: () => void) => HTMLElement} */
  const button = (key, text, label, onClick) => h("button", { type: "button", "data-key": key, "aria-label": label, onclick: onClick }, text);
  fill(byId("downloads"),
    h("span", { class: "quiet" }, t(all.length > 1 ? "findings.photo" : "download.title")),
    h("div", { class: "row-of-buttons", "data-key": "one" },
      button("save-report", t("inspection.report"), t("download.report"), () => saveReport([photo])),
      button("save-png", "PNG", t("download.png"), () => saveImage(photo)),
      button("save-json", "JSON", t("download.json"), () => save(`${stem(photo.name)}.json`, jsonBlob(photo.result))),
      photo.result.detections && button("save-coco", "COCO", t("download.coco"), () => save(`${stem(photo.name)}-coco.json`, jsonBlob(cocoDataset([photo]))))),
    all.length > 1 && h("span", { class: "quiet" }, t("download.all", { n: all.length })),
    all.length > 1 && h("div", { class: "row-of-buttons", "data-key": "all" },
      button("save-report-all", t("inspection.report"), t("download.reportAll"), () => saveReport(all)),
      button("save-json-all", "JSON", t("download.jsonAll"), () => save("findings.json", jsonBlob(all.map((p) => ({ name: p.name, ...p.result }))))),
      withDetections.length > 0 && button("save-coco-all", "COCO", t("download.cocoAll"), () => save("findings-coco.json", jsonBlob(cocoDataset(withDetections))))));
}
