// The outline of an edit: a box with corners, or rings of vertices; moved by pointer and by keys.

import { s } from "../dom.js";
import { t } from "../language.js";
import { outlinePath } from "../outlines.js";
import { inImage } from "../zoom.js";

const MAX_VERTICES = 48; // of a ring that a person edits
const MIN_SIDE = 1; // pixels of a box
/** @type {Record<string, [number, number]>} the corner of the box that a handle moves: index of x, index of y; -1: none */
const CORNERS = { nw: [0, 1], n: [-1, 1], ne: [2, 1], e: [2, -1], se: [2, 3], s: [-1, 3], sw: [0, 3], w: [0, -1] };

/** @typedef {{ w: number, h: number }} Size */
/** @type {(value: number, max: number) => number} */
const within = (value, max) => Math.min(Math.max(value, 0), max);
/** @param {number} value */
const rounded = (value) => Math.round(value * 10) / 10;

/**
 * Return the outline of an edit as the store takes it.
 * @param {Edit} edit
 */
export function editedOutline(edit) {
  if (edit.shape === "box" && edit.box) {
    const [x1, y1, x2, y2] = edit.box;
    return { box_xyxy: [Math.min(x1, x2), Math.min(y1, y2), Math.max(x1, x2), Math.max(y1, y2)], polygons: null };
  }
  if (edit.shape === "polygon" && edit.rings.length) return { box_xyxy: boxOf(edit.rings), polygons: edit.rings };
  return { box_xyxy: null, polygons: null };
}

/** @param {number[][][]} rings */
function boxOf(rings) {
  const points = rings.flat();
  const [xs, ys] = [points.map((p) => p[0]), points.map((p) => p[1])];
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
}

/** @param {Edit} edit */
export const hasOutline = (edit) => {
  const { box_xyxy: box } = editedOutline(edit);
  return box !== null && box[2] - box[0] >= MIN_SIDE && box[3] - box[1] >= MIN_SIDE;
};

/**
 * Change the shape: a box becomes a polygon of its corners; a polygon becomes the box around it.
 * @param {Edit} edit
 * @param {"box" | "polygon"} shape
 */
export function changeShape(edit, shape) {
  if (edit.shape === shape) return;
  if (shape === "polygon" && edit.box && !edit.rings.length) {
    const [x1, y1, x2, y2] = edit.box;
    edit.rings = [[[x1, y1], [x2, y1], [x2, y2], [x1, y2]]];
  }
  if (shape === "box" && edit.rings.length) edit.box = boxOf(edit.rings);
  edit.shape = shape;
}

/**
 * Return a ring with fewer vertices.
 * @param {number[][]} ring
 * @param {number} tolerance pixels
 * @returns {number[][]}
 */
function simplified(ring, tolerance) {
  if (ring.length < 3) return ring;
  const [first, last] = [ring[0], ring[ring.length - 1]];
  const [dx, dy] = [last[0] - first[0], last[1] - first[1]];
  const length = Math.hypot(dx, dy);
  let [farthest, position] = [0, 0];
  for (let i = 1; i < ring.length - 1; i += 1) {
    const [x, y] = [ring[i][0] - first[0], ring[i][1] - first[1]];
    const distance = length ? Math.abs(dx * y - dy * x) / length : Math.hypot(x, y);
    if (distance > farthest) [farthest, position] = [distance, i];
  }
  if (farthest <= tolerance) return [first, last];
  return [...simplified(ring.slice(0, position + 1), tolerance).slice(0, -1), ...simplified(ring.slice(position), tolerance)];
}

/**
 * Return rings with few enough vertices to be edited (Douglas and Peucker 1973).
 * @param {number[][][]} rings
 */
export function editableRings(rings) {
  return rings.map((ring) => {
    let result = ring;
    for (let tolerance = 0.5; result.length > MAX_VERTICES; tolerance *= 1.5) {
      const half = Math.floor(ring.length / 2);
      result = [...simplified(ring.slice(0, half + 1), tolerance).slice(0, -1), ...simplified([...ring.slice(half), ring[0]], tolerance).slice(0, -1)];
    }
    return result.map((p) => p.map(rounded));
  });
}

/**
 * Return the handles of an edit: the corners of a box, or vertices and the middles of edges, which become vertices.
 * @param {Edit} edit
 * @returns {{ id: string, x: number, y: number, isMiddle: boolean }[]}
 */
function handlesOf(edit) {
  if (edit.shape === "box") {
    if (!edit.box) return [];
    const { box } = edit;
    return Object.entries(CORNERS).map(([id, [ix, iy]]) => ({
      id,
      x: ix < 0 ? (box[0] + box[2]) / 2 : box[ix],
      y: iy < 0 ? (box[1] + box[3]) / 2 : box[iy],
      isMiddle: false,
    }));
  }
  return edit.rings.flatMap((ring, r) => ring.flatMap(([x, y], i) => {
    const [nextX, nextY] = ring[(i + 1) % ring.length];
    const vertex = { id: `v-${r}-${i}`, x, y, isMiddle: false };
    return ring.length < 3 ? [vertex] : [vertex, { id: `m-${r}-${i}`, x: (x + nextX) / 2, y: (y + nextY) / 2, isMiddle: true }];
  }));
}

/**
 * Move a handle to a point; the middle of an edge becomes a vertex first.
 * @param {Edit} edit
 * @param {string} id
 * @param {{ x: number, y: number }} point
 * @param {Size} size of the image
 * @returns {string} the id of the handle after it
 */
function moveHandle(edit, id, point, size) {
  const [x, y] = [rounded(within(point.x, size.w)), rounded(within(point.y, size.h))];
  if (edit.shape === "box" && edit.box) {
    const [ix, iy] = CORNERS[id];
    edit.rings = []; // they were those of another box
    if (ix >= 0) edit.box[ix] = x;
    if (iy >= 0) edit.box[iy] = y;
    return id;
  }
  const [kind, r, i] = id.split("-");
  const ring = edit.rings[Number(r)];
  if (kind === "m") {
    ring.splice(Number(i) + 1, 0, [x, y]);
    return `v-${r}-${Number(i) + 1}`;
  }
  ring[Number(i)] = [x, y];
  return id;
}

/**
 * Move a handle, or the whole outline, by keys.
 * @param {Edit} edit
 * @param {string | null} id null moves the outline
 * @param {{ x: number, y: number }} by pixels of the image
 * @param {Size} size
 */
export function moveBy(edit, id, by, size) {
  if (id) {
    const handle = handlesOf(edit).find((one) => one.id === id);
    return handle ? moveHandle(edit, id, { x: handle.x + by.x, y: handle.y + by.y }, size) : id;
  }
  const outline = editedOutline(edit).box_xyxy;
  if (!outline) return null;
  const x = within(outline[0] + by.x, size.w - (outline[2] - outline[0])) - outline[0];
  const y = within(outline[1] + by.y, size.h - (outline[3] - outline[1])) - outline[1];
  if (edit.shape === "box" && edit.box) {
    edit.box = edit.box.map((value, i) => rounded(value + (i % 2 ? y : x)));
    edit.rings = [];
  } else edit.rings = edit.rings.map((ring) => ring.map(([px, py]) => [rounded(px + x), rounded(py + y)]));
  return null;
}

/**
 * Remove a vertex; a ring keeps three.
 * @param {Edit} edit
 * @param {string} id
 */
export function removeVertex(edit, id) {
  const [kind, r, i] = id.split("-");
  if (kind !== "v" || edit.rings[Number(r)].length <= 3) return;
  edit.rings[Number(r)].splice(Number(i), 1);
}

/**
 * Start with a box in the middle of what is shown, for use without a pointer.
 * @param {Edit} edit
 * @param {{ x: number, y: number, w: number, h: number }} view
 */
export function startBox(edit, view) {
  edit.shape = "box";
  edit.box = [view.x + 0.375 * view.w, view.y + 0.375 * view.h, view.x + 0.625 * view.w, view.y + 0.625 * view.h].map(Math.round);
}

/** @type {{ handle: string, pointerId: number } | null} */
let dragged = null;

/**
 * Return the outline and the handles of an edit, as children of the SVG element of the image.
 * @param {Edit} edit
 */
export function drawEdit(edit) {
  const d = outlinePath(editedOutline(edit));
  const svgOf = (/** @type {any} */ event) => event.currentTarget.ownerSVGElement;
  return s("g", { class: "edit", "data-key": "edit" },
    d && s("path", { d, class: "halo", "data-key": "edit-halo" }),
    d && s("path", { d, class: "line", "data-key": "edit-line" }),
    handlesOf(edit).map(({ id, x, y, isMiddle }) => s("g", {
      class: `handle${isMiddle ? " middle" : ""}`,
      "data-key": `handle-${id}`,
      "data-handle": id,
      "data-at": `${x},${y}`,
      tabindex: 0,
      role: "button",
      "aria-label": t(isMiddle ? "edit.middle" : edit.shape === "box" ? "edit.corner" : "edit.vertex", { x: Math.round(x), y: Math.round(y) }),
      onpointerdown: (/** @type {PointerEvent} */ event) => {
        event.stopPropagation();
        /** @type {any} */ (event.currentTarget).focus?.({ preventScroll: true });
        svgOf(event).setPointerCapture(event.pointerId);
        dragged = { handle: id, pointerId: event.pointerId };
      },
    }, s("circle", { r: isMiddle ? 5 : 7 }))));
}

/**
 * Return the event handlers of the SVG element during an edit: they drag handles, and draw a new box.
 * @param {Edit} edit
 * @param {Size} size of the image
 * @param {Record<string, (event: any) => void>} others handlers for what is no part of the edit
 * @param {() => void} onChange
 */
export function editHandlers(edit, size, others, onChange) {
  return {
    ...others,
    onpointerdown: (/** @type {PointerEvent} */ event) => {
      if (edit.kind === "note" || (hasOutline(edit) && !dragged)) {
        others.onpointerdown(event);
        return;
      }
      if (dragged) return;
      const svg = /** @type {any} */ (event.currentTarget);
      const { x, y } = inImage(svg, event);
      svg.setPointerCapture(event.pointerId);
      const at = [rounded(within(x, size.w)), rounded(within(y, size.h))];
      edit.shape = "box";
      edit.box = [...at, ...at];
      dragged = { handle: "se", pointerId: event.pointerId };
      onChange();
    },
    onpointermove: (/** @type {PointerEvent} */ event) => {
      if (dragged?.pointerId !== event.pointerId) {
        others.onpointermove(event);
        return;
      }
      dragged.handle = moveHandle(edit, dragged.handle, inImage(/** @type {any} */ (event.currentTarget), event), size);
      onChange();
    },
    onpointerup: (/** @type {PointerEvent} */ event) => {
      if (dragged?.pointerId === event.pointerId) {
        dragged = null;
        if (edit.shape === "box") edit.box = editedOutline(edit).box_xyxy;
        onChange();
      }
      others.onpointerup(event);
    },
    onpointercancel: (/** @type {PointerEvent} */ event) => {
      dragged = null;
      others.onpointercancel(event);
    },
  };
}
