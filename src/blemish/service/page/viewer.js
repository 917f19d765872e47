// The photo with the outlines of its findings: zoom, pan, hover and select, all in pixels of the photo.
// Beside it, or over it, the heatmap.

import { INFERNO, labelColor } from "./colors.js";
import { byId, fill, h, s } from "./dom.js";
import { changed, currentPhoto, imageUrl, state } from "./state.js";
import { areaPercent, displayName, findings, heatmapCaption, nearMisses, needsReview, percent } from "./text.js";

/** @typedef {{ x: number, y: number, w: number, h: number }} View a rectangle in pixels of the photo */
/** @typedef {{ w: number, h: number }} Size */

const MAX_ZOOM = 40;
const BADGE_HEIGHT = 17; // of a finding's number, in pixels of the screen
const ALPHA_STEPS = 100; // of the table that hides low influence
/** @type {View | null} */
let view = null; // null: the whole photo
/** @type {Size | null} */
let size = null;
/** @type {string | null} */
let drawnPhoto = null; // the id of the photo that the viewer shows
/** @type {Map<string, Size | null>} */
const naturalSizes = new Map(); // of files that the browser could open, before the server answered
/** @type {WeakMap<Detection, string>} */
const paths = new WeakMap(); // outlines as SVG paths
/** @type {Map<number, PointerEvent>} */
const pointers = new Map();
let moved = false; // whether the pointer has moved since it was pressed

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
function outlinePath(detection) {
  let path = paths.get(detection);
  if (path === undefined) {
    const [x1, y1, x2, y2] = detection.box_xyxy;
    path = detection.polygons?.length
      ? detection.polygons.map((ring) => `M${ring.map(([x, y]) => `${x},${y}`).join("L")}Z`).join("")
      : `M${x1},${y1}H${x2}V${y2}H${x1}Z`;
    paths.set(detection, path);
  }
  return path;
}

/**
 * @param {PredictionResponse} result
 * @param {Detection} detection
 * @param {boolean} isBelow whether it is below the threshold
 */
function outline(result, detection, isBelow) {
  const { id } = detection;
  const d = outlinePath(detection);
  const selected = state.finding === id;
  const text = `${id}. ${displayName(detection)}, confidence ${percent(detection.score)}, ${areaPercent(detection.area_percent)} of the photo${isBelow ? ", below the threshold" : ""}`;
  return s("g", {
    class: `finding${selected ? " selected" : ""}${needsReview(result, detection) ? " review" : ""}${isBelow ? " below" : ""}`,
    tabindex: 0,
    role: "button",
    "aria-label": text,
    "aria-pressed": String(selected),
    "data-finding": id,
    "data-key": `outline-${id}`,
    onclick: () => !moved && select(id),
    onkeydown: (/** @type {KeyboardEvent} */ event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        select(id);
      }
    },
    onpointerenter: () => hover(id, true),
    onpointerleave: () => hover(id, false),
    onfocus: () => hover(id, true),
    onblur: () => hover(id, false),
  },
    s("title", {}, text),
    s("path", { d, class: "halo" }),
    s("path", { d, class: "line", vars: { "--label": labelColor(result, detection.label) } }));
}

/**
 * Return the position of a finding's number: the highest point of its outline, or the corner of its box.
 * @param {Detection} detection
 * @returns {number[]} x, y in pixels of the photo
 */
export function badgePosition(detection) {
  const [x1, y1] = detection.box_xyxy;
  const points = (detection.polygons ?? []).flat();
  return points.length ? points.reduce((top, point) => (point[1] < top[1] ? point : top)) : [x1, y1];
}

/**
 * Return the number that the table and the report give a finding; `applyView` keeps its size at every zoom.
 * @param {Detection} detection
 */
function badge(detection) {
  const text = String(detection.id);
  const width = 10 + 7 * text.length;
  return s("g", { class: "badge", "data-at": badgePosition(detection).join(","), "data-key": `badge-${detection.id}`, "aria-hidden": "true" },
    s("rect", { x: 0, y: -BADGE_HEIGHT, width, height: BADGE_HEIGHT, rx: 2 }),
    s("text", { x: width / 2, y: -4.5, "text-anchor": "middle" }, text));
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

/** @param {Size} of */
const wholeView = (of) => ({ x: 0, y: 0, w: of.w, h: of.h });

/** Show what `view` describes; also after a change of the viewer's size, because the numbers keep theirs. */
function applyView() {
  if (!size) return;
  const v = view ?? wholeView(size);
  for (const svg of photoElements()) {
    svg.setAttribute("viewBox", `${v.x} ${v.y} ${v.w} ${v.h}`);
    svg.classList.toggle("zoomed", view !== null);
    placeBadges(svg);
  }
}

/** @param {SVGSVGElement} svg */
function placeBadges(svg) {
  const unit = 1 / (svg.getScreenCTM()?.a || 1); // pixels of the photo in one of the screen
  /** @type {{ left: number, right: number, bottom: number }[]} */
  const placed = []; // none may hide another
  for (const element of svg.querySelectorAll(".badge")) {
    const group = /** @type {SVGGElement} */ (element);
    const width = Number(group.firstElementChild?.getAttribute("width")) * unit;
    const [x, y] = (group.dataset.at ?? "0,0").split(",").map(Number);
    const bottom = Math.max(y, BADGE_HEIGHT * unit);
    let left = Math.max(x, 0);
    const overlapping = () => placed.find((p) => left < p.right && left + width > p.left && Math.abs(bottom - p.bottom) < BADGE_HEIGHT * unit);
    for (let other = overlapping(); other; other = overlapping()) left = other.right + unit;
    placed.push({ left, right: left + width, bottom });
    group.setAttribute("transform", `translate(${left} ${bottom}) scale(${unit})`);
  }
}

/**
 * @param {View} v
 * @param {Size} of
 */
function clamp(v, of) {
  if (v.w >= of.w && v.h >= of.h) return null;
  return { ...v, x: Math.min(Math.max(v.x, -v.w / 2), of.w - v.w / 2), y: Math.min(Math.max(v.y, -v.h / 2), of.h - v.h / 2) };
}

/**
 * @param {number} factor below 1 zooms in
 * @param {{ x: number, y: number }} [at] the point that stays in place
 */
export function zoom(factor, at) {
  if (!size) return;
  const v = view ?? wholeView(size);
  const center = at ?? { x: v.x + v.w / 2, y: v.y + v.h / 2 };
  const f = Math.max(factor, size.w / MAX_ZOOM / v.w);
  view = clamp({ x: center.x - (center.x - v.x) * f, y: center.y - (center.y - v.y) * f, w: v.w * f, h: v.h * f }, size);
  applyView();
}

/**
 * @param {number} dx as a share of the width
 * @param {number} dy as a share of the height
 */
export function pan(dx, dy) {
  if (!view || !size) return;
  view = clamp({ ...view, x: view.x + dx * view.w, y: view.y + dy * view.h }, size);
  applyView();
}

export function fit() {
  view = null;
  applyView();
}

/**
 * Show one finding in the center, with space around it.
 * @param {Detection} detection
 */
export function zoomTo(detection) {
  if (!size) return;
  const [x1, y1, x2, y2] = detection.box_xyxy;
  const side = Math.max(x2 - x1, y2 - y1, 32) * 2.5;
  const w = Math.min(size.w, side * Math.max(1, size.w / size.h));
  const height = (w * size.h) / size.w;
  view = clamp({ x: (x1 + x2) / 2 - w / 2, y: (y1 + y2) / 2 - height / 2, w, h: height }, size);
  applyView();
}

/**
 * @param {SVGSVGElement} svg
 * @param {{ clientX: number, clientY: number }} event
 */
function inPhoto(svg, event) {
  const matrix = svg.getScreenCTM();
  return matrix ? new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse()) : { x: 0, y: 0 };
}

// If the page itself scrolls, the wheel scrolls the page until the photo has been zoomed.
const pageScrolls = () => document.documentElement.scrollHeight > window.innerHeight + 1 || byId("work").scrollHeight > byId("work").clientHeight + 1;

/** @param {WheelEvent} event */
function onWheel(event) {
  if (!view && !event.ctrlKey && pageScrolls()) return;
  event.preventDefault();
  zoom(event.deltaY > 0 ? 1.2 : 1 / 1.2, inPhoto(/** @type {SVGSVGElement} */ (event.currentTarget), event));
}

/** @param {PointerEvent} event */
function onMove(event) {
  const svg = /** @type {SVGSVGElement} */ (event.currentTarget);
  const before = pointers.get(event.pointerId);
  if (!before) return;
  const scale = svg.getScreenCTM()?.a || 1;
  const [dx, dy] = [event.clientX - before.clientX, event.clientY - before.clientY];
  if (pointers.size === 1) {
    if (!moved && Math.hypot(dx, dy) < 4) return;
    if (!moved) svg.setPointerCapture(event.pointerId);
    moved = true;
    if (view && size) {
      view = clamp({ ...view, x: view.x - dx / scale, y: view.y - dy / scale }, size);
      applyView();
    }
  } else {
    moved = true;
    const [other] = [...pointers.values()].filter((p) => p.pointerId !== event.pointerId);
    const distanceBefore = Math.hypot(before.clientX - other.clientX, before.clientY - other.clientY);
    const distance = Math.hypot(event.clientX - other.clientX, event.clientY - other.clientY);
    const middle = { clientX: (event.clientX + other.clientX) / 2, clientY: (event.clientY + other.clientY) / 2 };
    if (distanceBefore > 0 && distance > 0) zoom(distanceBefore / distance, inPhoto(svg, middle));
  }
  pointers.set(event.pointerId, event);
}

/** @param {PointerEvent} event */
const onRelease = (event) => pointers.delete(event.pointerId);

/**
 * @param {Size} of
 * @param {string} url
 * @param {string} name
 * @param {...any} layers on top of the image
 */
function photoElement(of, url, name, ...layers) {
  const v = view ?? wholeView(of);
  return s("svg", {
    class: `photo-image${view ? " zoomed" : ""}`,
    role: "group",
    "aria-label": name,
    viewBox: `${v.x} ${v.y} ${v.w} ${v.h}`,
    preserveAspectRatio: "xMidYMid meet",
    onwheel: onWheel,
    ondblclick: (/** @type {any} */ event) => zoom(0.5, inPhoto(event.currentTarget, event)),
    onpointerdown: (/** @type {PointerEvent} */ event) => {
      moved = false;
      pointers.set(event.pointerId, event);
    },
    onpointermove: onMove,
    onpointerup: onRelease,
    onpointercancel: onRelease,
    onpointerleave: onRelease,
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
  if (state.tab === "why" && heatmap) {
    const caption = heatmapCaption(heatmap);
    if (heatmap.empty) return pane("original", caption, photoElement(of, url, photo.name));
    const layer = s("image", { href: heatmap.url, width: of.w, height: of.h, preserveAspectRatio: "none", filter: "url(#heatmap)", class: "heatmap" });
    return [
      state.heatmap.sideBySide && pane("original", "Original", photoElement(of, url, `${photo.name}, original`)),
      pane("heatmap", caption, photoElement(of, url, caption, s("defs", {}, heatmapFilter()), layer)),
    ];
  }
  const below = new Set(result ? nearMisses(result) : []);
  const shown = result ? [...findings(result), ...below] : [];
  // The smallest on top, so that each can be reached.
  const sorted = [...shown].sort((a, b) => b.area - a.area);
  const outlines = result && sorted.map((d) => outline(result, d, below.has(d)));
  return pane("findings", null, photoElement(of, url, photo.name, s("g", { class: "outlines" }, outlines), s("g", { class: "badges" }, sorted.map(badge))));
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
  if (photo.id !== drawnPhoto || (known && size && (known.w !== size.w || known.h !== size.h))) view = null;
  drawnPhoto = photo.id;
  size = known ?? null;
  if (!size) {
    let text = "This browser cannot show the file format; a copy from the server will appear here.";
    if (known === undefined) text = "Opening…";
    else if (photo.problem) text = "This file cannot be shown.";
    fill(parent, h("p", { class: "quiet empty" }, text));
    return;
  }
  fill(parent,
    h("div", { class: "panes", "data-key": "panes" }, panes(photo, size)),
    h("div", { class: "tools", role: "group", "aria-label": "Zoom", "data-key": "tools" },
      h("button", { type: "button", "data-key": "zoom-in", onclick: () => zoom(1 / 1.5), "aria-label": "Zoom in" }, "+"),
      h("button", { type: "button", "data-key": "zoom-out", onclick: () => zoom(1.5), "aria-label": "Zoom out" }, "−"),
      h("button", { type: "button", "data-key": "fit", onclick: fit, "aria-label": "Fit the photo" }, "Fit")));
  applyView();
}

new ResizeObserver(applyView).observe(byId("viewer"));
