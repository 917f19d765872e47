// The photos of the store: small ones for strips and lists, large ones for the viewer, each loaded once.

import { changed } from "../state.js";
import { getFile } from "./rest.js";

const SMALL = 320; // longest side in pixels
const LARGE = 8192;
const MAX_LARGE = 6; // that are kept
const MAX_CONCURRENT = 4;
const SHOWN_BY_BROWSERS = new Set(["JPEG", "PNG", "WEBP", "AVIF", "BMP"]);

/** @typedef {{ url: string | null, failed: boolean }} Loaded */
/** @type {Map<string, Loaded>} */
const small = new Map();
/** @type {Map<string, Loaded>} */
const large = new Map();
/** @type {(() => Promise<void>)[]} */
const waiting = [];
let active = 0;

function startNext() {
  while (active < MAX_CONCURRENT && waiting.length) {
    const work = /** @type {() => Promise<void>} */ (waiting.shift());
    active += 1;
    work().finally(() => {
      active -= 1;
      startNext();
    });
  }
}

/**
 * @param {Map<string, Loaded>} cache
 * @param {string} id
 * @param {string} query
 * @param {boolean} first whether it is loaded before those that wait
 */
function load(cache, id, query, first) {
  const known = cache.get(id);
  if (known) return known;
  /** @type {Loaded} */
  const entry = { url: null, failed: false };
  cache.set(id, entry);
  const work = async () => {
    try {
      entry.url = URL.createObjectURL((await getFile(`/images/${id}/content${query}`)).blob);
    } catch {
      entry.failed = true;
    }
    changed();
  };
  if (first) waiting.unshift(work);
  else waiting.push(work);
  startNext();
  return entry;
}

/**
 * Return the URL of a small copy, or null until it is loaded.
 * @param {string} id of an image
 */
export const smallUrl = (id) => load(small, id, `?max_side=${SMALL}`, false).url;

/**
 * Return the URL of the image for the viewer: the file itself, or a copy if browsers cannot show it. Null until loaded.
 * @param {InspectionImage} image
 */
export function largeUrl(image) {
  const query = SHOWN_BY_BROWSERS.has(image.format) ? "" : `?max_side=${LARGE}`;
  const entry = load(large, image.id, query, true);
  large.delete(image.id); // the newest last
  large.set(image.id, entry);
  for (const [id, { url }] of [...large].slice(0, -MAX_LARGE)) {
    if (url) URL.revokeObjectURL(url);
    large.delete(id);
  }
  return entry.url;
}

/** @param {InspectionImage} image */
export const hasFailed = (image) => Boolean(large.get(image.id)?.failed);

/**
 * Load the image that a person is likely to open next.
 * @param {InspectionImage | undefined} image
 */
export function prefetch(image) {
  if (image && !large.has(image.id)) largeUrl(image);
}
