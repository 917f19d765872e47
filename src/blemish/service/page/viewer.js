// The photograph with outlines on it: zoom, pan, hover and select, all in the photograph's own pixels.

import { colourOf } from "./colours.js";
import { byId, fill, h, s } from "./dom.js";
import { changed, current, state } from "./store.js";
import { findings, isClose, percent, title } from "./words.js";

const MOST_ZOOM = 40;
let view = null; // { x, y, w, h } in photograph pixels; null: all of it
let size = null; // { w, h }
let shownFor = null;
let canvas = null;
let natural = new Map(); // size of what the browser itself could open, before the server answered

export function select(id) {
  state.finding = state.finding === id ? null : id;
  changed();
}

export function hover(id, on) {
  for (const element of document.querySelectorAll(`[data-finding="${id}"]`)) element.classList.toggle("hover", on);
}

const path = (object) => {
  if (object.polygons?.length) {
    return object.polygons.map((ring) => `M${ring.map(([x, y]) => `${x},${y}`).join("L")}Z`).join("");
  }
  const [x1, y1, x2, y2] = object.box_xyxy;
  return `M${x1},${y1}H${x2}V${y2}H${x1}Z`;
};

function outline(result, object) {
  const colour = colourOf(result, object.label);
  const d = path(object);
  const chosen = state.finding === object.id;
  const text = `${object.id}. ${title(object.title)}, score ${percent(object.score)}, ${object.area_percent.toFixed(1)} % of the photograph`;
  return s(
    "g",
    {
      class: `finding${chosen ? " chosen" : ""}${isClose(result, object) ? " close" : ""}`,
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
    s("path", { d, class: "line", vars: { "--label": colour } }),
  );
}

function apply() {
  if (!canvas || !size) return;
  const v = view ?? { x: 0, y: 0, w: size.w, h: size.h };
  canvas.setAttribute("viewBox", `${v.x} ${v.y} ${v.w} ${v.h}`);
  canvas.classList.toggle("zoomed", view !== null);
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
  apply();
}

export function pan(dx, dy) {
  if (!view) return;
  view = clamp({ ...view, x: view.x + dx * view.w, y: view.y + dy * view.h });
  apply();
}

export function fit() {
  view = null;
  apply();
}

// Bring one finding into the middle, with room around it.
export function goTo(object) {
  const [x1, y1, x2, y2] = object.box_xyxy;
  const side = Math.max(x2 - x1, y2 - y1, 32) * 2.5;
  const w = Math.min(size.w, side * Math.max(1, size.w / size.h));
  const height = (w * size.h) / size.w;
  view = clamp({ x: (x1 + x2) / 2 - w / 2, y: (y1 + y2) / 2 - height / 2, w, h: height });
  apply();
}

const pointers = new Map();
let moved = false;

function inPhotograph(event) {
  const matrix = canvas.getScreenCTM();
  return matrix ? new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse()) : { x: 0, y: 0 };
}

function listen(svg) {
  svg.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(event.deltaY > 0 ? 1.2 : 1 / 1.2, inPhotograph(event));
  }, { passive: false });
  svg.addEventListener("dblclick", (event) => zoom(0.5, inPhotograph(event)));
  svg.addEventListener("pointerdown", (event) => {
    moved = false;
    pointers.set(event.pointerId, event);
  });
  svg.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const scale = canvas.getScreenCTM()?.a || 1;
    if (pointers.size === 1) {
      if (!moved && Math.hypot(event.clientX - before.clientX, event.clientY - before.clientY) < 4) return;
      if (!moved) svg.setPointerCapture(event.pointerId);
      moved = true;
      if (view) {
        view = clamp({ ...view, x: view.x - (event.clientX - before.clientX) / scale, y: view.y - (event.clientY - before.clientY) / scale });
        apply();
      }
    } else {
      moved = true;
      const [other] = [...pointers.values()].filter((p) => p.pointerId !== event.pointerId);
      const was = Math.hypot(before.clientX - other.clientX, before.clientY - other.clientY);
      const is = Math.hypot(event.clientX - other.clientX, event.clientY - other.clientY);
      if (was > 0 && is > 0) zoom(was / is, inPhotograph({ clientX: (event.clientX + other.clientX) / 2, clientY: (event.clientY + other.clientY) / 2 }));
    }
    pointers.set(event.pointerId, event);
  });
  for (const name of ["pointerup", "pointercancel", "pointerleave"]) {
    svg.addEventListener(name, (event) => pointers.delete(event.pointerId));
  }
}

function learnSize(item) {
  if (natural.has(item.id)) return natural.get(item.id);
  const image = new Image();
  image.onload = () => {
    natural.set(item.id, { w: image.naturalWidth, h: image.naturalHeight });
    changed();
  };
  image.onerror = () => natural.set(item.id, null);
  image.src = item.url;
  return undefined;
}

export function forget(item) {
  natural.delete(item.id);
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
    canvas = null;
    fill(parent, h("p", { class: "quiet empty" }, known === null ? "The browser cannot show this file." : "Opening…"));
    return;
  }
  const source = item.shown ?? item.url;
  const reuse = canvas && canvas.isConnected && canvas.dataset.source === source;
  if (!reuse) {
    canvas = s(
      "svg",
      { class: "photograph", role: "group", "aria-label": item.name, "data-source": source, preserveAspectRatio: "xMidYMid meet" },
      s("image", { href: source, width: size.w, height: size.h, preserveAspectRatio: "none" }),
      s("g", { class: "outlines" }),
    );
    listen(canvas);
    fill(parent, canvas, h("div", { class: "tools", role: "group", "aria-label": "Zoom" },
      h("button", { type: "button", onclick: () => zoom(1 / 1.5), "aria-label": "Zoom in" }, "+"),
      h("button", { type: "button", onclick: () => zoom(1.5), "aria-label": "Zoom out" }, "−"),
      h("button", { type: "button", onclick: fit }, "Fit")));
  }
  const shown = result ? findings(result) : [];
  // The smallest on top, so that each can be reached.
  fill(canvas.querySelector(".outlines"), [...shown].sort((a, b) => b.area - a.area).map((o) => outline(result, o)));
  apply();
}
