// DOM elements from plain values. Text is always text: a file name or a label can never become markup.

const SVG = "http://www.w3.org/2000/svg";
const PROPERTIES = ["value", "checked", "disabled", "hidden", "selected"];
/** @type {WeakMap<Element, Record<string, ((event: any) => void) | null>>} */
const handlers = new WeakMap(); // by the name of the event

/**
 * Set the event handlers of an element. Listeners look handlers up in the map, so that `fill` can give an element that
 * stays in the document the handlers of its newer version.
 * @param {Element} element
 * @param {Record<string, ((event: any) => void) | null>} updated
 */
function setHandlers(element, updated) {
  const previous = handlers.get(element) ?? {};
  for (const name of Object.keys(updated)) {
    if (!(name in previous)) element.addEventListener(name, (event) => handlers.get(element)?.[name]?.(event));
  }
  for (const name of Object.keys(previous)) if (!(name in updated)) updated[name] = null;
  handlers.set(element, updated);
}

/**
 * @param {any[]} children
 * @returns {any[]}
 */
const present = (children) => children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false);

/**
 * @param {any} element
 * @param {Record<string, any> | null} properties
 * @param {any[]} children
 */
function build(element, properties, children) {
  /** @type {Record<string, (event: any) => void>} */
  const events = {};
  element.append(...present(children)); // before the properties: a select takes its value from its options
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) events[name.slice(2)] = value;
    else if (name === "vars") for (const [key, v] of Object.entries(value)) element.style.setProperty(key, v);
    else if (PROPERTIES.includes(name)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  setHandlers(element, events);
  return element;
}

/**
 * Return an HTML element.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, any> | null} [properties] attributes; `on…`: event handlers; `vars`: CSS variables
 * @param {...any} children elements, text, or arrays of them; null, undefined and false are left out
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export const h = (tag, properties, ...children) => build(document.createElement(tag), properties ?? null, children);

/**
 * Return an SVG element.
 * @template {keyof SVGElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, any> | null} [properties] as for `h`
 * @param {...any} children
 * @returns {SVGElementTagNameMap[Tag]}
 */
export const s = (tag, properties, ...children) => build(document.createElementNS(SVG, tag), properties ?? null, children);

/**
 * Return an element of index.html, which always exists.
 * @param {string} id
 * @returns {any}
 */
export const byId = (id) => document.getElementById(id);

/** @param {any} node */
const keyOf = (node) => node.dataset?.key;

/**
 * Return whether an element can be updated to look like its newer version. A canvas cannot: its content is not in its
 * attributes, so it is kept or replaced.
 * @param {Node} old
 * @param {Node} fresh
 */
const canUpdate = (old, fresh) => old.nodeName === fresh.nodeName && keyOf(old) === keyOf(fresh) && old.nodeName !== "CANVAS";

/**
 * @param {any} old
 * @param {any} fresh
 */
function update(old, fresh) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) === value) continue;
    if (name === "style") old.style.cssText = value; // the page's policy forbids it as an attribute
    else old.setAttribute(name, value);
  }
  replaceChildren(old, [...fresh.childNodes]);
  for (const name of PROPERTIES) if (name in fresh && old[name] !== fresh[name]) old[name] = fresh[name];
  setHandlers(old, handlers.get(fresh) ?? {});
}

/**
 * @param {Element} parent
 * @param {Node[]} children
 */
function replaceChildren(parent, children) {
  const keys = new Set(children.map(keyOf));
  // First, so that what follows stays where it is: an element that is moved loses the focus for a moment.
  for (const node of [...parent.childNodes]) if (keyOf(node) && !keys.has(keyOf(node))) node.remove();
  const remaining = new Set(parent.childNodes);
  const byKey = new Map([...remaining].filter(keyOf).map((node) => [keyOf(node), node]));
  let position = parent.firstChild;
  for (const fresh of children) {
    let node = /** @type {ChildNode} */ (fresh);
    if (!remaining.has(node)) {
      const old = keyOf(fresh) ? byKey.get(keyOf(fresh)) : position;
      if (old && remaining.has(old) && canUpdate(old, fresh)) {
        update(old, fresh);
        node = old;
      }
    }
    remaining.delete(node);
    if (node === position) position = position.nextSibling;
    else parent.insertBefore(node, position);
  }
  for (const node of remaining) if (node.parentNode === parent) node.remove();
}

/**
 * Make `children` the content of an element. Existing elements are updated rather than replaced: a slider that is being
 * dragged, a button that is being pressed and an open list survive.
 * @param {Element} parent
 * @param {...any} children
 */
export function fill(parent, ...children) {
  const active = parent.contains(document.activeElement) ? document.activeElement : null;
  const key = active && keyOf(active);
  replaceChildren(parent, present(children).map((c) => (c instanceof Node ? c : document.createTextNode(String(c)))));
  if (key && document.activeElement !== active) {
    const element = /** @type {HTMLElement | null} */ (parent.querySelector(`[data-key="${CSS.escape(key)}"]`));
    element?.focus({ preventScroll: true });
  }
}
