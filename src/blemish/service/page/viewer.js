// The photo with the outlines of its findings: zoom, pan, hover and select, all in pixels of the photo.
// Beside it, or over it, the heatmap.

import { INFERNO, labelColor } from "./colors.js";
import { byId, fill, h, s } from "./dom.js";
import { badge, findingOutline, outlinePath, placeBadges } from "./outlines.js";
import { t } from "./language.js";
import { changed, currentPhoto, imageUrl, state } from "./state.js";
import { areaPercent, displayName, findings, heatmapCaption, nearMisses, needsReview, percent } from "./text.js";
import { Zoom } from "./zoom.js";

const ALPHA_STEPS = 100; // of the table that hides low influence
/** @typedef {import("./zoom.js").Size} Size */
/** @type {string | null} */
let drawnPhoto = null; // the id of the photo that the viewer shows
/** @type {Map<string, Size | null>} */
const naturalSizes = new Map(); // of files that the browser could open, before the server answered
/** @type {WeakMap<Detection, string>} */
const paths = new WeakMap(); // outlines as SVG paths
// If the page itself scrolls, the wheel scrolls the page until the photo has been zoomed.
const pageScrolls = () => document.documentElement.scrollHeight > window.innerHeight + 1 || byId("work").scrollHeight > byId("work").clientHeight + 1;
const viewport = new Zoom(applyView, pageScrolls);

/** @param {number} id */
export function select(id) {
  state.finding = state.finding === id ? null : id;
  changed();
}

/**
 * @param {number} id
 * @param {boolean} on
 */
export function hover(id, on) {
  for (const element of document.querySelectorAll(`[data-finding="${id}"]`)) element.classList.toggle("hover", on);
}

/** @param {Detection} detection */
function cachedPath(detection) {
  const path = paths.get(detection) ?? outlinePath(detection);
  paths.set(detection, path);
  return path;
}

/**
 * @param {PredictionResponse} result
 * @param {Detection} detection
 * @param {boolean} isBelow whether it is below the threshold
 */
function outline(result, detection, isBelow) {
  const { id } = detection;
  const d = cachedPath(detection);
  const selected = state.finding === id;
  const text = t(isBelow ? "outline.below" : "outline.text", { id, label: displayName(detection), score: percent(detection.score), area: areaPercent(detection.area_percent) });
  return findingOutline({
    id,
    d,
    text,
    color: labelColor(result, detection.label),
    classes: `finding${selected ? " selected" : ""}${needsReview(result, detection) ? " review" : ""}${isBelow ? " below" : ""}`,
    selected,
    onselect: () => select(id),
    isDrag: () => viewport.moved,
    onhover: (on) => hover(id, on),
  });
}

/** Return the filter from gray to color and transparency. The browser applies it: a slider changes only two numbers. */
function heatmapFilter() {
  const { opacity, minimum } = state.heatmap;
  /** @param {number} channel */
  const table = (channel) => INFERNO.map((c) => (c[channel] / 255).toFixed(3)).join(" ");
  const alpha = Array.from({ length: ALPHA_STEPS + 1 }, (_, i) => (i / ALPHA_STEPS >= minimum ? opacity : 0));
  return s("filter", { id: "heatmap", x: 0, y: 0, width: "100%", height: "100%", "color-interpolation-filters": "sRGB" },
    s("feComponentTransfer", { in: "SourceGraphic", result: "colors" },
      s("feFuncR", { type: "table", tableValues: table(0) }),
      s("feFuncG", { type: "table", tableValues: table(1) }),
      s("feFuncB", { type: "table", tableValues: table(2) })),
    s("feColorMatrix", { in: "SourceGraphic", type: "matrix", values: "0 0 0 0 0  0 0 0 0 0  0 0 0 0 0  1 0 0 0 0" }),
    s("feComponentTransfer", { result: "opacity" }, s("feFuncA", { type: "discrete", tableValues: alpha.join(" ") })),
    s("feComposite", { in: "colors", in2: "opacity", operator: "in" }));
}

/** @returns {SVGSVGElement[]} */
const photoElements = () => [...document.querySelectorAll("#viewer .photo-image")].map((e) => /** @type {SVGSVGElement} */ (e));

/** Show what `viewport` describes; also after a change of the viewer's size, because the numbers keep theirs. */
function applyView() {
  if (!viewport.size) return;
  for (const svg of photoElements()) {
    svg.setAttribute("viewBox", viewport.viewBox);
    svg.classList.toggle("zoomed", viewport.view !== null);
    placeBadges(svg);
  }
}

/** @param {number} factor below 1 zooms in */
export const zoom = (factor) => viewport.zoom(factor);
/** @type {(dx: number, dy: number) => void} */
export const pan = (dx, dy) => viewport.pan(dx, dy);
export const fit = () => viewport.fit();
/** @param {Detection} detection */
export const zoomTo = (detection) => viewport.zoomTo(detection.box_xyxy);

/**
 * @param {Size} of
 * @param {string} url
 * @param {string} name
 * @param {...any} layers on top of the image
 */
function photoElement(of, url, name, ...layers) {
  return s("svg", {
    class: `photo-image${viewport.view ? " zoomed" : ""}`,
    role: "group",
    "aria-label": name,
    viewBox: viewport.viewBox,
    preserveAspectRatio: "xMidYMid meet",
    ...viewport.handlers(),
  }, s("image", { href: url, width: of.w, height: of.h, preserveAspectRatio: "none" }), layers);
}

/**
 * Return the size of a file that the browser can open, null if it cannot, or undefined until that is known.
 * @param {Photo} photo
 */
function naturalSize(photo) {
  if (naturalSizes.has(photo.id)) return naturalSizes.get(photo.id);
  const image = new Image();
  image.onload = () => {
    naturalSizes.set(photo.id, { w: image.naturalWidth, h: image.naturalHeight });
    changed();
  };
  image.onerror = () => {
    naturalSizes.set(photo.id, null);
    changed();
  };
  image.src = photo.fileUrl;
  return undefined;
}

/** @param {Photo} photo */
export function forgetPhoto(photo) {
  naturalSizes.delete(photo.id);
}

/**
 * @param {Photo} photo
 * @param {Size} of
 */
function panes(photo, of) {
  const { heatmap, result } = photo;
  const url = imageUrl(photo);
  /** @type {(key: string, caption: string | null, svg: SVGElement) => HTMLElement} */
  const pane = (key, caption, svg) => h("figure", { class: "pane", "data-key": key }, caption && h("figcaption", {}, caption), svg);
  if (state.tab === "heatmap" && heatmap) {
    const caption = heatmapCaption(heatmap);
    if (heatmap.empty) return pane("original", caption, photoElement(of, url, photo.name));
    const layer = s("image", { href: heatmap.url, width: of.w, height: of.h, preserveAspectRatio: "none", filter: "url(#heatmap)", class: "heatmap" });
    return [
      state.heatmap.sideBySide && pane("original", t("viewer.original"), photoElement(of, url, `${photo.name}, ${t("viewer.original")}`)),
      pane("heatmap", caption, photoElement(of, url, caption, s("defs", {}, heatmapFilter()), layer)),
    ];
  }
  const below = new Set(result ? nearMisses(result) : []);
  const shown = result ? [...findings(result), ...below] : [];
  // The smallest on top, so that each can be reached.
  const sorted = [...shown].sort((a, b) => b.area - a.area);
  const outlines = result && sorted.map((d) => outline(result, d, below.has(d)));
  return pane("findings", null, photoElement(of, url, photo.name, s("g", { class: "outlines" }, outlines), s("g", { class: "badges" }, sorted.map((d) => badge(d.id, d)))));
}

/**
 * Return the line that sweeps the photo while the server works, or null. Each stage of the server has its own pace.
 * @param {Photo} photo
 */
function scanLine(photo) {
  const stage = photo.heatmapStage ? "explaining" : photo.status === "working" ? photo.stage ?? "sent" : null;
  return stage && h("div", { class: `scan ${stage}`, "aria-hidden": "true", "data-key": "scan" });
}

export function drawViewer() {
  const photo = currentPhoto();
  const parent = byId("viewer");
  if (!photo) {
    drawnPhoto = null;
    fill(parent);
    return;
  }
  const result = photo.result;
  const known = result ? { w: result.size_hw[1], h: result.size_hw[0] } : naturalSize(photo);
  viewport.setImage(known ?? null, photo.id !== drawnPhoto);
  drawnPhoto = photo.id;
  const { size } = viewport;
  if (!size) {
    let text = t("viewer.noFormat");
    if (known === undefined) text = t("viewer.opening");
    else if (photo.problem) text = t("viewer.failed");
    fill(parent, h("p", { class: "quiet empty" }, text));
    return;
  }
  fill(parent,
    h("div", { class: "panes", "data-key": "panes" }, panes(photo, size)),
    scanLine(photo),
    h("div", { class: "tools", role: "group", "aria-label": t("zoom.group"), "data-key": "tools" },
      h("button", { type: "button", "data-key": "zoom-in", onclick: () => zoom(1 / 1.5), "aria-label": t("zoom.in") }, "+"),
      h("button", { type: "button", "data-key": "zoom-out", onclick: () => zoom(1.5), "aria-label": t("zoom.out") }, "−"),
      h("button", { type: "button", "data-key": "fit", onclick: fit, "aria-label": t("zoom.fitPhoto") }, t("zoom.fit"))));
  applyView();
}

new ResizeObserver(applyView).observe(byId("viewer"));
