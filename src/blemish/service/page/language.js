// The language of the page: the browser's, or the one that a person chose.

import { storedText } from "./browser_storage.js";
import de from "./texts/de.js";
import en from "./texts/en.js";

/** @typedef {keyof typeof en} TextKey */
/** @typedef {Record<string, string | number>} TextValues */

/** @type {Record<string, { name: string, texts: Record<string, string> }>} */
const CATALOGS = { en: { name: "English", texts: en }, de: { name: "Deutsch", texts: de } };
const stored = storedText("localStorage", "blemish-language");
const preferred = [stored.get() ?? "", ...navigator.languages].map((tag) => tag.slice(0, 2).toLowerCase());
let current = preferred.find((tag) => tag in CATALOGS) ?? "en";
document.documentElement.lang = current;

export const language = () => current;
export const languages = Object.entries(CATALOGS).map(([tag, { name }]) => ({ tag, name }));

/** @param {string} tag */
export function chooseLanguage(tag) {
  if (!(tag in CATALOGS)) return;
  current = tag;
  stored.set(tag);
  document.documentElement.lang = tag;
}

/**
 * Return a number as the language writes it.
 * @param {number} value
 * @param {Intl.NumberFormatOptions} [options]
 */
export const number = (value, options) => new Intl.NumberFormat(current, options).format(value);

/** @param {string | Date} time */
export const dateTime = (time) => new Date(time).toLocaleString(current, { dateStyle: "medium", timeStyle: "short" });
/** @param {string | Date} time */
export const date = (time) => new Date(time).toLocaleDateString(current, { dateStyle: "medium" });

/**
 * Return a text of the catalog. `{name}` becomes a value; `{n|one photo|# photos}` becomes the first text if the value
 * is 1, else the second, with the value at `#`.
 * @param {TextKey} key
 * @param {TextValues} [values]
 */
export function t(key, values = {}) {
  const text = CATALOGS[current].texts[key] ?? en[key];
  /** @param {string} name */
  const shown = (name) => (typeof values[name] === "number" ? number(values[name]) : String(values[name] ?? ""));
  return text.replace(/\{(\w+)(?:\|([^|}]*)\|([^}]*))?\}/g, (_, name, one, many) =>
    many === undefined ? shown(name) : (values[name] === 1 ? one : many).replace("#", shown(name)));
}

/**
 * Return the text of a value that the service names, such as a state; an unknown one is shown as it is.
 * @param {string} group
 * @param {string} value
 */
export function tValue(group, value) {
  const key = /** @type {TextKey} */ (`${group}.${value}`);
  return key in en ? t(key) : value;
}

/** Set the texts of index.html: of elements with `data-text`, and of attributes named by `data-text-ATTRIBUTE`. */
export function setStaticTexts() {
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = t(/** @type {any} */ (element.getAttribute("data-text")));
  for (const attribute of ["aria-label", "title"]) {
    for (const element of document.querySelectorAll(`[data-text-${attribute}]`)) {
      element.setAttribute(attribute, t(/** @type {any} */ (element.getAttribute(`data-text-${attribute}`))));
    }
  }
}
