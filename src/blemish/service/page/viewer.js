// The photograph with outlines on it: zoom, pan, hover and select, all in the photograph's own pixels.
// Beside it, or over it, the map of where the model looked.

import { colourOf, INFERNO } from "./colours.js";
import { byId, fill, h, s } from "./dom.js";
import { changed, current, state } from "./store.js";
import { area, findings, isClose, mapWords, nearMisses, percent, title } from "./words.js";

const MOST_ZOOM = 40;
const BADGE = 17; // height of a finding's number, pixels of the screen
const ALPHA_STEPS = 100; // of the table that cuts the map off below "show from"
let view = null; // { x, y, w, h } in photograph pixels; null: all of it
let size = null; // { w, h }
let shownFor = null;
const natural = new Map(); // size of what the browser itself could open, before the server answered
const paths = new WeakMap(); // object of an answer: its outline as SVG says it

export function select(id) {
  state.finding = state.finding === id ? null : id;
  changed();
}

export function hover(id, on) {
  for (const element of document.querySelectorAll(`[data-finding="${id}"]`)) element.classList.toggle("hover", on);
}

function path(object) {
  if (!paths.has(object)) {
    const [x1, y1, x2, y2] = object.box_xyxy;
    paths.set(object, object.polygons?.length
      ? object.polygons.map((ring) => `M${ring.map(([x, y]) => `${x},${y}`).join("L")}Z`).join("")
      : `M${x1},${y1}H${x2}V${y2}H${x1}Z`);
  }
  return paths.get(object);
}

function outline(result, object, below) {
  const d = path(object);
  const chosen = state.finding === object.id;
  const text = `${object.id}. ${title(object.title)}, score ${percent(object.score)}, ${area(object.area_percent)} of the photograph${below ? ", below the threshold" : ""}`;
  return s("g", {
    class: `finding${chosen ? " chosen" : ""}${isClose(result, object) ? " close" : ""}${below ? " below" : ""}`,
    tabindex: 0,
    role: "button",
    "aria-label": text,
    "aria-pressed": String(chosen),
    "data-finding": object.id,
    "data-key": `outline-${object.id}`,
    onclick: () => !moved && select(object.id),
    onkeydown: (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        select(object.id);
      }
    },
    onpointerenter: () => hover(object.id, true),
    onpointerleave: () => hover(object.id, false),
    onfocus: () => hover(object.id, true),
    onblur: () => hover(object.id, false),
  },
    s("title", {}, text),
    s("path", { d, class: "halo" }),
    s("path", { d, class: "line", vars: { "--label": colourOf(result, object.label) } }));
}

// Where a finding's number stands: on the highest point of its outline, or on the corner of its box.
export function summit(object) {
  const [x1, y1] = object.box_xyxy;
  const points = (object.polygons ?? []).flat();
  return points.length ? points.reduce((top, point) => (point[1] < top[1] ? point : top)) : [x1, y1];
}

// The number that the table and the report give a finding; `place` keeps it the same size at every zoom.
function badge(object) {
  const text = String(object.id);
  const wide = 10 + 7 * text.length;
  return s("g", { class: "badge", "data-at": summit(object).join(","), "data-key": `badge-${object.id}`, "aria-hidden": "true" },
    s("rect", { x: 0, y: -BADGE, width: wide, height: BADGE, rx: 2 }),
    s("text", { x: wide / 2, y: -4.5, "text-anchor": "middle" }, text));
}

// Grey to colour and see-through, by the browser: a slider moves two numbers and no pixels.
function heatFilter() {
  const table = (channel) => INFERNO.map((c) => (c[channel] / 255).toFixed(3)).join(" ");
  const alpha = Array.from({ length: ALPHA_STEPS + 1 }, (_, i) => (i / ALPHA_STEPS >= state.map.from ? state.map.opacity : 0));
  return s("filter", { id: "heat", x: 0, y: 0, width: "100%", height: "100%", "color-interpolation-filters": "sRGB" },
    s("feComponentTransfer", { in: "SourceGraphic", result: "colours" },
      ["R", "G", "B"].map((name, i) => s(`feFunc${name}`, { type: "table", tableValues: table(i) }))),
    s("feColorMatrix", { in: "SourceGraphic", type: "matrix", values: "0 0 0 0 0  0 0 0 0 0  0 0 0 0 0  1 0 0 0 0" }),
    s("feComponentTransfer", { result: "seen" }, s("feFuncA", { type: "discrete", tableValues: alpha.join(" ") })),
    s("feComposite", { in: "colours", in2: "seen", operator: "in" }));
}

const canvases = () => [...document.querySelectorAll("#viewer .photograph")];

// Shows what `view` says. Also when the room for it has changed: the numbers keep their size.
export function place() {
  if (!size) return;
  const v = view ?? { x: 0, y: 0, w: size.w, h: size.h };
  for (const svg of canvases()) {
    svg.setAttribute("viewBox", `${v.x} ${v.y} ${v.w} ${v.h}`);
    svg.classList.toggle("zoomed", view !== null);
    const unit = 1 / (svg.getScreenCTM()?.a || 1); // photograph pixels in one of the screen's
    const placed = []; // left, right and foot of the numbers that stand already: none hides another
    for (const mark of svg.querySelectorAll(".badge")) {
      const wide = Number(mark.firstChild.getAttribute("width")) * unit;
      let [left, foot] = mark.dataset.at.split(",").map(Number);
      foot = Math.max(foot, BADGE * unit);
      left = Math.max(left, 0);
      for (let hit; (hit = placed.find((p) => left < p.right && left + wide > p.left && Math.abs(foot - p.foot) < BADGE * unit)); ) left = hit.right + unit;
      placed.push({ left, right: left + wide, foot });
      mark.setAttribute("transform", `translate(${left} ${foot}) scale(${unit})`);
    }
  }
}

function clamp(v) {
  if (v.w >= size.w && v.h >= size.h) return null;
  return { ...v, x: Math.min(Math.max(v.x, -v.w / 2), size.w - v.w / 2), y: Math.min(Math.max(v.y, -v.h / 2), size.h - v.h / 2) };
}

export function zoom(factor, at) {
  if (!size) return;
  const v = view ?? { x: 0, y: 0, w: size.w, h: size.h };
  const centre = at ?? { x: v.x + v.w / 2, y: v.y + v.h / 2 };
  const f = Math.max(factor, size.w / MOST_ZOOM / v.w);
  view = clamp({ x: centre.x - (centre.x - v.x) * f, y: centre.y - (centre.y - v.y) * f, w: v.w * f, h: v.h * f });
  place();
}

export function pan(dx, dy) {
  if (!view) return;
  view = clamp({ ...view, x: view.x + dx * view.w, y: view.y + dy * view.h });
  place();
}

export function fit() {
  view = null;
  place();
}

// Bring one finding into the middle, with room around it.
export function goTo(object) {
  const [x1, y1, x2, y2] = object.box_xyxy;
  const side = Math.max(x2 - x1, y2 - y1, 32) * 2.5;
  const w = Math.min(size.w, side * Math.max(1, size.w / size.h));
  const height = (w * size.h) / size.w;
  view = clamp({ x: (x1 + x2) / 2 - w / 2, y: (y1 + y2) / 2 - height / 2, w, h: height });
  place();
}

const pointers = new Map();
let moved = false;

function inPhotograph(svg, event) {
  const matrix = svg.getScreenCTM();
  return matrix ? new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse()) : { x: 0, y: 0 };
}

// Where the page itself scrolls, the wheel belongs to the page until one has zoomed in.
const scrolls = () => document.documentElement.scrollHeight > window.innerHeight + 1 || byId("work").scrollHeight > byId("work").clientHeight + 1;

function onWheel(event) {
  if (!view && !event.ctrlKey && scrolls()) return;
  event.preventDefault();
  zoom(event.deltaY > 0 ? 1.2 : 1 / 1.2, inPhotograph(event.currentTarget, event));
}

function onMove(event) {
  const svg = event.currentTarget;
  const before = pointers.get(event.pointerId);
  if (!before) return;
  const scale = svg.getScreenCTM()?.a || 1;
  if (pointers.size === 1) {
    if (!moved && Math.hypot(event.clientX - before.clientX, event.clientY - before.clientY) < 4) return;
    if (!moved) svg.setPointerCapture(event.pointerId);
    moved = true;
    if (view) {
      view = clamp({ ...view, x: view.x - (event.clientX - before.clientX) / scale, y: view.y - (event.clientY - before.clientY) / scale });
      place();
    }
  } else {
    moved = true;
    const [other] = [...pointers.values()].filter((p) => p.pointerId !== event.pointerId);
    const was = Math.hypot(before.clientX - other.clientX, before.clientY - other.clientY);
    const is = Math.hypot(event.clientX - other.clientX, event.clientY - other.clientY);
    const middle = { clientX: (event.clientX + other.clientX) / 2, clientY: (event.clientY + other.clientY) / 2 };
    if (was > 0 && is > 0) zoom(was / is, inPhotograph(svg, middle));
  }
  pointers.set(event.pointerId, event);
}

const letGo = (event) => pointers.delete(event.pointerId);

function photograph(source, name, ...over) {
  const v = view ?? { x: 0, y: 0, w: size.w, h: size.h };
  return s("svg", {
    class: `photograph${view ? " zoomed" : ""}`,
    role: "group",
    "aria-label": name,
    viewBox: `${v.x} ${v.y} ${v.w} ${v.h}`,
    preserveAspectRatio: "xMidYMid meet",
    onwheel: onWheel,
    ondblclick: (event) => zoom(0.5, inPhotograph(event.currentTarget, event)),
    onpointerdown: (event) => {
      moved = false;
      pointers.set(event.pointerId, event);
    },
    onpointermove: onMove,
    onpointerup: letGo,
    onpointercancel: letGo,
    onpointerleave: letGo,
  }, s("image", { href: source, width: size.w, height: size.h, preserveAspectRatio: "none" }), over);
}

function learnSize(item) {
  if (natural.has(item.id)) return natural.get(item.id);
  const image = new Image();
  image.onload = () => {
    natural.set(item.id, { w: image.naturalWidth, h: image.naturalHeight });
    changed();
  };
  image.onerror = () => {
    natural.set(item.id, null);
    changed();
  };
  image.src = item.url;
  return undefined;
}

export function forget(item) {
  natural.delete(item.id);
}

function panes(item, source) {
  const result = item.result;
  if (state.tab === "why" && item.map) {
    const words = mapWords(item.map);
    if (item.map.empty) return h("figure", { class: "pane", "data-key": "original" }, h("figcaption", {}, words), photograph(source, item.name));
    const heat = s("image", { href: item.map.url, width: size.w, height: size.h, preserveAspectRatio: "none", filter: "url(#heat)", class: "heat" });
    return [
      state.map.beside && h("figure", { class: "pane", "data-key": "original" }, h("figcaption", {}, "Original"), photograph(source, `${item.name}, original`)),
      h("figure", { class: "pane", "data-key": "map" }, h("figcaption", {}, words), photograph(source, words, s("defs", {}, heatFilter()), heat)),
    ];
  }
  const below = new Set(result ? nearMisses(result) : []);
  const shown = result ? [...findings(result), ...below] : [];
  // The smallest on top, so that each can be reached.
  const sorted = [...shown].sort((a, b) => b.area - a.area);
  return h("figure", { class: "pane", "data-key": "findings" },
    photograph(source, item.name, s("g", { class: "outlines" }, sorted.map((o) => outline(result, o, below.has(o)))), s("g", { class: "badges" }, sorted.map(badge))));
}

export function drawViewer() {
  const item = current();
  const parent = byId("viewer");
  if (!item) {
    shownFor = null;
    fill(parent);
    return;
  }
  const result = item.result;
  const known = result ? { w: result.size_hw[1], h: result.size_hw[0] } : learnSize(item);
  if (item.id !== shownFor || (known && size && (known.w !== size.w || known.h !== size.h))) view = null;
  shownFor = item.id;
  size = known ?? null;
  if (!size) {
    const words = known === undefined ? "Opening…" : item.problem ? "There is nothing to show of this file." : "Your browser cannot show this format; the server's copy will stand here.";
    fill(parent, h("p", { class: "quiet empty" }, words));
    return;
  }
  const source = item.shown ?? item.url;
  fill(parent,
    h("div", { class: "panes", "data-key": "panes" }, panes(item, source)),
    h("div", { class: "tools", role: "group", "aria-label": "Zoom", "data-key": "tools" },
      h("button", { type: "button", "data-key": "zoom-in", onclick: () => zoom(1 / 1.5), "aria-label": "Zoom in" }, "+"),
      h("button", { type: "button", "data-key": "zoom-out", onclick: () => zoom(1.5), "aria-label": "Zoom out" }, "−"),
      h("button", { type: "button", "data-key": "fit", onclick: fit, "aria-label": "Fit the photograph" }, "Fit")));
  place();
}

new ResizeObserver(place).observe(byId("viewer"));
