// Outlines of findings and their numbers on an image.

import { s } from "./dom.js";

/** @typedef {{ box_xyxy: number[] | null, polygons?: number[][][] | null }} Outline in pixels of the image */

const BADGE_HEIGHT = 17; // of a finding's number, in pixels of the screen

/**
 * Return an outline as the path of an SVG element; "" for a label of the whole image.
 * @param {Outline} outline
 */
export function outlinePath({ box_xyxy: box, polygons }) {
  if (polygons?.length) return polygons.map((ring) => `M${ring.map(([x, y]) => `${x},${y}`).join("L")}Z`).join("");
  if (!box) return "";
  const [x1, y1, x2, y2] = box;
  return `M${x1},${y1}H${x2}V${y2}H${x1}Z`;
}

/**
 * Return the outline of a finding that is selected by pointer and keys, and marked under the pointer.
 * @param {{ id: string | number, d: string, text: string, color: string, classes: string, selected: boolean,
 *   onselect: () => void, isDrag: () => boolean, onhover: (on: boolean) => void }} finding
 */
export function findingOutline({ id, d, text, color, classes, selected, onselect, isDrag, onhover }) {
  return s("g", {
    class: classes,
    tabindex: 0,
    role: "button",
    "aria-label": text,
    "aria-pressed": String(selected),
    "data-finding": id,
    "data-key": `outline-${id}`,
    onclick: () => !isDrag() && onselect(),
    onkeydown: (/** @type {KeyboardEvent} */ event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        onselect();
      }
    },
    onpointerenter: () => onhover(true),
    onpointerleave: () => onhover(false),
    onfocus: () => onhover(true),
    onblur: () => onhover(false),
  },
    s("title", {}, text),
    s("path", { d, class: "halo" }),
    s("path", { d, class: "line", vars: { "--label": color } }));
}

/**
 * Return the position of a finding's number: the highest point of its outline, or the corner of its box.
 * @param {Outline} outline
 * @returns {number[]} x, y in pixels of the image
 */
export function badgePosition({ box_xyxy: box, polygons }) {
  const points = (polygons ?? []).flat();
  return points.length ? points.reduce((top, point) => (point[1] < top[1] ? point : top)) : (box ?? [0, 0]).slice(0, 2);
}

/**
 * Return the number that the table and the report give a finding; `placeBadges` keeps its size at every zoom.
 * @param {string | number} number
 * @param {Outline} outline
 */
export function badge(number, outline) {
  const text = String(number);
  const width = 10 + 7 * text.length;
  return s("g", { class: "badge", "data-at": badgePosition(outline).join(","), "data-key": `badge-${number}`, "aria-hidden": "true" },
    s("rect", { x: 0, y: -BADGE_HEIGHT, width, height: BADGE_HEIGHT, rx: 2 }),
    s("text", { x: width / 2, y: -4.5, "text-anchor": "middle" }, text));
}

/**
 * Place the numbers of an image so that each keeps its size at every zoom and none hides another.
 * @param {SVGSVGElement} svg
 */
export function placeBadges(svg) {
  const unit = 1 / (svg.getScreenCTM()?.a || 1); // pixels of the image in one of the screen
  /** @type {{ left: number, right: number, bottom: number }[]} */
  const placed = [];
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
