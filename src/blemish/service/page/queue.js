// The list of photos: the status of each, and its buttons.

import { byId, fill, h } from "./dom.js";
import { thumbnailCanvas } from "./images.js";
import { t } from "./language.js";
import { resultsAreShown, toggleResults } from "./results_table.js";
import { changed, state } from "./state.js";
import { retakeText, reviewItems, statusText } from "./text.js";
import { cancel, hasFailed, isBusy, remove, removeAll, retry, retryAll } from "./uploads.js";

/** @param {string} id */
export function selectPhoto(id) {
  state.selected = id;
  state.finding = null;
  changed();
}

/** @param {number} offset */
export function selectNextPhoto(offset) {
  const position = state.photos.findIndex((p) => p.id === state.selected);
  const photo = state.photos[Math.min(Math.max(position + offset, 0), state.photos.length - 1)];
  if (!photo) return;
  selectPhoto(photo.id);
  document.querySelector(`[data-key="photo-${photo.id}"]`)?.scrollIntoView({ block: "nearest", inline: "nearest" });
}

/**
 * Remove a photo and move the focus to the next one, instead of the top of the page.
 * @param {Photo} photo
 */
export function removeAndFocusNext(photo) {
  const position = state.photos.indexOf(photo);
  remove(photo);
  const next = state.photos[Math.min(position, state.photos.length - 1)];
  queueMicrotask(() => {
    const element = /** @type {HTMLElement | null} */ (next ? document.querySelector(`[data-key="photo-${next.id}"]`) : byId("pick"));
    element?.focus();
  });
}

/** @param {Photo} photo */
function photoRow(photo) {
  const status = statusText(photo);
  const selected = state.selected === photo.id;
  /** @type {(key: string, text: string, onClick: () => void) => HTMLElement} */
  const button = (key, text, onClick) => h("button", { type: "button", class: "link", "data-key": `${key}-${photo.id}`, "aria-label": `${text} ${photo.name}`, onclick: onClick }, text);
  return h("li", { class: `photo ${photo.status}${selected ? " selected" : ""}`, "data-key": `row-of-${photo.id}` },
    h("button", {
      type: "button",
      class: "face",
      "data-key": `photo-${photo.id}`,
      "aria-current": selected ? "true" : null,
      onclick: () => selectPhoto(photo.id),
    },
      thumbnailCanvas(photo),
      h("span", { class: "what" }, h("span", { class: "name", title: photo.name }, photo.name), h("span", { class: "status" }, status),
        photo.status === "done" && retakeText(photo.result) && h("span", { class: "chip" }, retakeText(photo.result)))),
    isBusy(photo)
      ? button("cancel", t("dialog.cancel"), () => cancel(photo))
      : h("button", { type: "button", class: "cross", "data-key": `remove-${photo.id}`, "aria-label": t("queue.removeOne", { name: photo.name }), title: t("queue.remove"), onclick: () => removeAndFocusNext(photo) }, "×"),
    hasFailed(photo) && button("retry", t("retry"), () => retry(photo)),
    photo.status === "sending" && h("progress", { "data-key": "sending", max: 1, value: photo.sent, "aria-label": t("upload.progress", { name: photo.name }) }),
    photo.status === "working" && h("progress", { "data-key": "working", "aria-label": `${photo.name}: ${status}` }));
}

export function drawQueue() {
  const all = state.photos;
  const done = all.filter((p) => p.status === "done");
  const failed = all.filter((p) => p.status === "failed").length;
  const review = done.filter((p) => p.result && reviewItems(p.result).length).length;
  const parts = [t("queue.photos", { n: all.length }), t("queue.done", { n: done.length })];
  if (failed) parts.push(t("queue.failed", { n: failed }));
  if (review) parts.push(t("queue.review", { n: review }));
  const retake = done.filter((p) => p.result?.capture?.retake).length;
  if (retake) parts.push(t("queue.retake", { n: retake }));
  const isTable = resultsAreShown();
  fill(byId("batch"),
    `${parts.join(", ")}. `,
    all.length > 1 && h("button", { type: "button", class: "link", "data-key": "results", "aria-pressed": String(isTable), onclick: toggleResults }, t("results.show")),
    failed > 1 && h("button", { type: "button", class: "link", "data-key": "retry-all", onclick: retryAll }, t("queue.retryAll")),
    all.length > 1 && h("button", { type: "button", class: "link", "data-key": "remove-all", onclick: () => { removeAll(); byId("pick").focus(); } }, t("queue.removeAll")));
  fill(byId("queue"), all.map(photoRow));
}
