// Elements from plain values. Text is always text: a file name or a title can never become markup.

const SVG = "http://www.w3.org/2000/svg";
const PROPERTIES = ["value", "checked", "disabled", "hidden", "selected"];
const handlers = new WeakMap(); // element: { event name: what to do }

// Listeners go through `handlers`, so that `fill` can give an element that stays what a newer one would do.
function wire(element, wanted) {
  const wired = handlers.get(element) ?? {};
  for (const name of Object.keys(wanted)) {
    if (!(name in wired)) element.addEventListener(name, (event) => handlers.get(element)[name]?.(event));
  }
  for (const name of Object.keys(wired)) if (!(name in wanted)) wanted[name] = null;
  handlers.set(element, wanted);
}

const present = (children) => children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false);

function build(element, properties, children) {
  const wanted = {};
  element.append(...present(children)); // before the properties: a select takes its value from its options
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) wanted[name.slice(2)] = value;
    else if (name === "vars") for (const [key, v] of Object.entries(value)) element.style.setProperty(key, v);
    else if (PROPERTIES.includes(name)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  wire(element, wanted);
  return element;
}

export const h = (tag, properties, ...children) => build(document.createElement(tag), properties, children);
export const s = (tag, properties, ...children) => build(document.createElementNS(SVG, tag), properties, children);
export const byId = (id) => document.getElementById(id);

const keyOf = (node) => node.dataset?.key;
// A canvas holds what was painted on it, which no attribute tells: it is kept or replaced, never altered.
const alike = (old, fresh) => old.nodeName === fresh.nodeName && keyOf(old) === keyOf(fresh) && old.nodeName !== "CANVAS";

function alter(old, fresh) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) === value) continue;
    if (name === "style") old.style.cssText = value; // as an attribute the page's policy forbids it
    else old.setAttribute(name, value);
  }
  replace(old, [...fresh.childNodes]);
  for (const name of PROPERTIES) if (name in fresh && old[name] !== fresh[name]) old[name] = fresh[name];
  wire(old, handlers.get(fresh) ?? {});
}

function replace(parent, children) {
  const left = new Set(parent.childNodes);
  const named = new Map([...left].filter(keyOf).map((node) => [keyOf(node), node]));
  let place = parent.firstChild;
  for (const fresh of children) {
    let node = fresh;
    if (!left.has(fresh)) {
      const old = keyOf(fresh) ? named.get(keyOf(fresh)) : place;
      if (old && left.has(old) && alike(old, fresh)) {
        alter(old, fresh);
        node = old;
      }
    }
    left.delete(node);
    if (node === place) place = place.nextSibling;
    else parent.insertBefore(node, place);
  }
  for (const node of left) if (node.parentNode === parent) node.remove();
}

// Make `children` all that is inside. What is already there is altered rather than replaced: a slider that is
// being dragged, a button that is being pressed and an open list have to survive whatever else is going on.
export function fill(parent, ...children) {
  const active = parent.contains(document.activeElement) ? document.activeElement : null;
  const key = active && keyOf(active);
  replace(parent, present(children).map((c) => (c instanceof Node ? c : document.createTextNode(String(c)))));
  if (key && document.activeElement !== active) {
    parent.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
  }
}
