// Zoom and pan of an image in an SVG element: by wheel, by pointer, by two fingers, and by keys.

/** @typedef {{ x: number, y: number, w: number, h: number }} View a rectangle in pixels of the image */
/** @typedef {{ w: number, h: number }} Size */
/** @typedef {{ x: number, y: number }} Point */

const MAX_ZOOM = 40;
const CLICK_DISTANCE = 4; // pixels of the screen that a pointer may move in a click

/**
 * Return a point of the screen in pixels of the image.
 * @param {SVGSVGElement} svg
 * @param {{ clientX: number, clientY: number }} event
 * @returns {Point}
 */
export function inImage(svg, event) {
  const matrix = svg.getScreenCTM();
  return matrix ? new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse()) : { x: 0, y: 0 };
}

/**
 * @param {View} v
 * @param {Size} of
 */
function clamp(v, of) {
  if (v.w >= of.w && v.h >= of.h) return null;
  return { ...v, x: Math.min(Math.max(v.x, -v.w / 2), of.w - v.w / 2), y: Math.min(Math.max(v.y, -v.h / 2), of.h - v.h / 2) };
}

/** The part of an image that is shown. */
export class Zoom {
  /**
   * @param {() => void} onChange called after each change
   * @param {() => boolean} [wheelScrolls] whether the wheel scrolls the page until the image has been zoomed
   */
  constructor(onChange, wheelScrolls = () => false) {
    this.onChange = onChange;
    this.wheelScrolls = wheelScrolls;
    /** @type {View | null} null: the whole image */
    this.view = null;
    /** @type {Size | null} */
    this.size = null;
    this.moved = false; // whether the pointer has moved since it was pressed
    /** @type {Map<number, PointerEvent>} */
    this.pointers = new Map();
  }

  /**
   * Show another image, whole unless it has the same size.
   * @param {Size | null} size
   * @param {boolean} isOther
   */
  setImage(size, isOther) {
    if (isOther || (size && this.size && (size.w !== this.size.w || size.h !== this.size.h))) this.view = null;
    this.size = size;
  }

  get viewBox() {
    const v = this.shown();
    return v ? `${v.x} ${v.y} ${v.w} ${v.h}` : "0 0 1 1";
  }

  /** @returns {View | null} */
  shown() {
    return this.view ?? (this.size && { x: 0, y: 0, ...this.size });
  }

  /**
   * @param {View | null} view
   */
  show(view) {
    this.view = view && this.size ? clamp(view, this.size) : null;
    this.onChange();
  }

  /**
   * @param {number} factor below 1 zooms in
   * @param {Point} [at] the point that stays in place
   */
  zoom(factor, at) {
    const v = this.shown();
    if (!v || !this.size) return;
    const center = at ?? { x: v.x + v.w / 2, y: v.y + v.h / 2 };
    const f = Math.max(factor, this.size.w / MAX_ZOOM / v.w);
    this.show({ x: center.x - (center.x - v.x) * f, y: center.y - (center.y - v.y) * f, w: v.w * f, h: v.h * f });
  }

  /**
   * @param {number} dx as a share of the width
   * @param {number} dy as a share of the height
   */
  pan(dx, dy) {
    const v = this.view;
    if (v) this.show({ ...v, x: v.x + dx * v.w, y: v.y + dy * v.h });
  }

  fit() {
    this.show(null);
  }

  /**
   * Show a box in the center, with space around it.
   * @param {number[]} box
   */
  zoomTo([x1, y1, x2, y2]) {
    if (!this.size) return;
    const { w: width, h: height } = this.size;
    const side = Math.max(x2 - x1, y2 - y1, 32) * 2.5;
    const w = Math.min(width, side * Math.max(1, width / height));
    const h = (w * height) / width;
    this.show({ x: (x1 + x2) / 2 - w / 2, y: (y1 + y2) / 2 - h / 2, w, h });
  }

  /** Return the event handlers of an SVG element that shows the image. */
  handlers() {
    return {
      onwheel: (/** @type {WheelEvent} */ event) => this.#wheel(event),
      ondblclick: (/** @type {any} */ event) => this.zoom(0.5, inImage(event.currentTarget, event)),
      onpointerdown: (/** @type {PointerEvent} */ event) => {
        this.moved = false;
        this.pointers.set(event.pointerId, event);
      },
      onpointermove: (/** @type {PointerEvent} */ event) => this.#move(event),
      onpointerup: (/** @type {PointerEvent} */ event) => this.#release(event),
      onpointercancel: (/** @type {PointerEvent} */ event) => this.#release(event),
      onpointerleave: (/** @type {PointerEvent} */ event) => this.#release(event),
    };
  }

  /** @param {PointerEvent} event */
  #release(event) {
    this.pointers.delete(event.pointerId);
  }

  /** @param {WheelEvent} event */
  #wheel(event) {
    if (!this.view && !event.ctrlKey && this.wheelScrolls()) return;
    event.preventDefault();
    this.zoom(event.deltaY > 0 ? 1.2 : 1 / 1.2, inImage(/** @type {SVGSVGElement} */ (event.currentTarget), event));
  }

  /** @param {PointerEvent} event */
  #move(event) {
    const svg = /** @type {SVGSVGElement} */ (event.currentTarget);
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const scale = svg.getScreenCTM()?.a || 1;
    const [dx, dy] = [event.clientX - before.clientX, event.clientY - before.clientY];
    if (this.pointers.size === 1) {
      if (!this.moved && Math.hypot(dx, dy) < CLICK_DISTANCE) return;
      if (!this.moved) svg.setPointerCapture(event.pointerId);
      this.moved = true;
      if (this.view) this.show({ ...this.view, x: this.view.x - dx / scale, y: this.view.y - dy / scale });
    } else {
      this.moved = true;
      const [other] = [...this.pointers.values()].filter((p) => p.pointerId !== event.pointerId);
      const distanceBefore = Math.hypot(before.clientX - other.clientX, before.clientY - other.clientY);
      const distance = Math.hypot(event.clientX - other.clientX, event.clientY - other.clientY);
      const middle = { clientX: (event.clientX + other.clientX) / 2, clientY: (event.clientY + other.clientY) / 2 };
      if (distanceBefore > 0 && distance > 0) this.zoom(distanceBefore / distance, inImage(svg, middle));
    }
    this.pointers.set(event.pointerId, event);
  }
}
