// Dialogs of the inspections: one element, filled for each question.

import { byId, h } from "../dom.js";
import { t } from "../language.js";

/**
 * Show a dialog until a button resolves it.
 * @template T
 * @param {string} title
 * @param {(close: (value: T) => void) => any[]} content
 * @param {{ value: T, mustAnswer?: boolean, wide?: boolean }} options `value`: of Escape, unless an answer is required
 * @returns {Promise<T>}
 */
export function ask(title, content, { value, mustAnswer = false, wide = false }) {
  const dialog = byId("inspection-dialog");
  if (dialog.open) dialog.close();
  return new Promise((resolve) => {
    let answer = value;
    const close = (/** @type {T} */ chosen) => {
      answer = chosen;
      dialog.close();
      resolve(chosen); // before the next key: the event "close" comes later
    };
    if (mustAnswer) dialog.dataset.mustAnswer = "true";
    else delete dialog.dataset.mustAnswer;
    dialog.classList.toggle("wide", wide);
    dialog.oncancel = (/** @type {Event} */ event) => { if (mustAnswer) event.preventDefault(); };
    dialog.onclose = () => resolve(answer);
    dialog.replaceChildren(h("h2", {
      id: "inspection-dialog-title", tabindex: -1, autofocus: mustAnswer, // a key that was meant for the page presses no button
    }, title), ...content(close).flat(Infinity).filter(Boolean));
    dialog.showModal();
  });
}

/** Close the dialog when the page shows another view; a question that must be answered stays. */
export function closeDialog() {
  const dialog = byId("inspection-dialog");
  if (dialog.open && !dialog.dataset.mustAnswer) dialog.close();
}

/**
 * Return a label and its input.
 * @param {string} id
 * @param {string} text
 * @param {Record<string, any>} properties
 * @param {string} [help]
 */
export const field = (id, text, properties, help) => h("div", { class: "field" }, h("label", { for: id }, text), h("input", { id, type: "text", autocomplete: "off", ...properties }), help && h("p", { class: "quiet" }, help));

/**
 * @param {string} id
 * @param {string} text
 * @param {{ value: string, text: string }[]} choices
 * @param {string} selected
 * @param {(event: any) => void} [onchange]
 */
export const choice = (id, text, choices, selected, onchange) => h("div", { class: "field" }, h("label", { for: id }, text),
  h("select", { id, onchange }, choices.map((c) => h("option", { value: c.value, selected: c.value === selected }, c.text))));

/** Ask who reviews; once for each browser. @returns {Promise<string | null>} */
export const askReviewer = (/** @type {string} */ known = "") => ask(t("name.title"), (close) => {
  const input = /** @type {HTMLInputElement} */ (h("input", { id: "reviewer-name", type: "text", autocomplete: "name", maxlength: 100, value: known, autofocus: true, onkeydown: (/** @type {KeyboardEvent} */ event) => event.key === "Enter" && use() }));
  const use = () => (input.value.trim() ? close(input.value.trim()) : input.focus());
  return [
    h("p", {}, t("name.why")),
    h("div", { class: "field" }, h("label", { for: "reviewer-name" }, t("name.label")), input),
    h("div", { class: "row-of-buttons" }, h("button", { type: "button", class: "primary", onclick: use }, t("name.use")), h("button", { type: "button", onclick: () => close(null) }, t("dialog.cancel"))),
  ];
}, { value: /** @type {string | null} */ (null) });

/**
 * Ask a question with two answers.
 * @param {string} title
 * @param {string} text
 * @param {string} yes
 */
export const confirmDialog = (title, text, yes) => ask(title, (close) => [
  h("p", {}, text),
  h("div", { class: "row-of-buttons" }, h("button", { type: "button", class: "primary", onclick: () => close(true) }, yes), h("button", { type: "button", onclick: () => close(false) }, t("dialog.cancel"))),
], { value: false });
