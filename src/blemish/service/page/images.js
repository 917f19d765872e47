// Images for canvases: each file is decoded once, not once for each crop.

import { imageUrl } from "./state.js";

const MAX_LOADED = 4;
/** @type {Map<string, Promise<HTMLImageElement>>} */
const loaded = new Map(); // by URL

/** @param {string} url */
export function loadImage(url) {
  let promise = loaded.get(url);
  if (!promise) {
    const image = new Image();
    image.src = url;
    promise = image.decode().then(() => image);
    promise.catch(() => loaded.delete(url));
    loaded.set(url, promise);
    for (const old of [...loaded.keys()].slice(0, -MAX_LOADED)) loaded.delete(old);
  }
  return promise;
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {CanvasRenderingContext2DSettings} [options]
 */
export const context2d = (canvas, options) => /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", options));

/**
 * @param {number} side pixels
 * @param {string} className
 */
function emptyCanvas(side, className) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  canvas.className = className;
  canvas.setAttribute("aria-hidden", "true");
  return canvas;
}

/** @type {WeakMap<Detection, { url: string, canvas: HTMLCanvasElement }>} */
const crops = new WeakMap();

/**
 * Return a square crop of the photo around the box of a detection; it stays empty if the browser cannot show the file.
 * @param {Photo} photo with a result
 * @param {Detection} detection
 */
export function cropCanvas(photo, detection) {
  const url = imageUrl(photo);
  const existing = crops.get(detection);
  if (existing?.url === url) return existing.canvas;
  const canvas = emptyCanvas(112, "crop");
  const [height, width] = /** @type {PredictionResponse} */ (photo.result).size_hw;
  const [x1, y1, x2, y2] = detection.box_xyxy;
  const span = Math.min(Math.max(x2 - x1, y2 - y1, 24) * 1.3, Math.min(width, height));
  /** @type {(low: number, high: number, end: number) => number} */
  const start = (low, high, end) => Math.min(Math.max((low + high - span) / 2, 0), Math.max(end - span, 0));
  loadImage(url).then((image) => {
    const scale = image.naturalWidth / width;
    const [x, y] = [start(x1, x2, width) * scale, start(y1, y2, height) * scale];
    context2d(canvas).drawImage(image, x, y, span * scale, span * scale, 0, 0, canvas.width, canvas.height);
  }).catch(() => {});
  crops.set(detection, { url, canvas });
  return canvas;
}

/** @type {WeakMap<Photo, { url: string, canvas: HTMLCanvasElement, failed: boolean }>} */
const thumbnails = new WeakMap();

/**
 * Return a small square of a photo for the list. It is decoded once and not at each redraw.
 * @param {Photo} photo
 */
export function thumbnailCanvas(photo) {
  const url = imageUrl(photo);
  const existing = thumbnails.get(photo);
  if (existing && (existing.url === url || !existing.failed)) return existing.canvas;
  const canvas = emptyCanvas(104, "thumbnail");
  const entry = { url, canvas, failed: false };
  thumbnails.set(photo, entry);
  decodeSmall(photo, url).then((image) => {
    const span = Math.min(image.width, image.height);
    context2d(canvas).drawImage(image, (image.width - span) / 2, (image.height - span) / 2, span, span, 0, 0, 104, 104);
    image.close();
  }).catch(() => { entry.failed = true; }); // the server's copy may succeed
  return canvas;
}

/** @type {Promise<any>} */
let previous = Promise.resolve(); // one at a time: each needs the memory of a whole photo for a moment

/**
 * @param {Photo} photo
 * @param {string} url
 */
function decodeSmall(photo, url) {
  const small = previous.then(async () => {
    const image = await createImageBitmap(url === photo.fileUrl ? photo.file : await loadImage(url));
    const scale = Math.min(1, 208 / Math.min(image.width, image.height));
    if (scale === 1) return image;
    const reduced = await createImageBitmap(image, {
      resizeWidth: Math.max(1, Math.round(image.width * scale)),
      resizeHeight: Math.max(1, Math.round(image.height * scale)),
      resizeQuality: "medium",
    });
    image.close();
    return reduced;
  });
  previous = small.catch(() => {});
  return small;
}
