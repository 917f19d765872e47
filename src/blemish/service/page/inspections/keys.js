// The keys of the inspections.

import { byId } from "../dom.js";
import { t } from "../language.js";
import { changed } from "../state.js";
import { openCreateDialog } from "./create_dialog.js";
import { askReport } from "./download_dialogs.js";
import { stepFinding } from "./findings_table.js";
import { editChanged, cancelEdit, chooseShape, decideSelected, placeBox, saveEdit, startAdd, startEdit } from "./review.js";
import { hasOutline, moveBy, removeVertex } from "./outline_editor.js";
import { compareAddress } from "./router.js";
import { current, currentImage, store } from "./state.js";
import { stepImage } from "./strip.js";
import { pixelStep, viewport } from "./viewer.js";

/** @typedef {import("../shortcuts.js").Shortcut} Shortcut */

/** @returns {Shortcut[]} */
const listShortcuts = () => [
  ["n", t("list.new"), () => openCreateDialog()],
  ["/", t("list.search"), () => byId("list-search")?.focus()],
];

/** @returns {Shortcut[]} */
const inspectionShortcuts = () => [
  ["a", t("review.accept"), () => decideSelected("accept")],
  ["x", t("review.reject"), () => decideSelected("reject")],
  ["u", t("review.contest"), () => decideSelected("contest")],
  ["e", t("review.edit"), () => startEdit("label")],
  ["b", t("review.box"), () => (current().edit ? chooseShape("box") : startEdit("box"))],
  ["p", t("review.polygon"), () => (current().edit ? chooseShape("polygon") : startEdit("polygon"))],
  ["n", t("review.add"), startAdd],
  ["m", t("review.note"), () => startEdit("note")],
  ["j", t("keys.nextFinding"), () => stepFinding(1)],
  ["k", t("keys.previousFinding"), () => stepFinding(-1)],
  ["J", t("keys.nextUndecided"), () => stepFinding(1, { undecided: true })],
  ["ArrowRight", t("keys.nextPhoto"), () => stepImage(1)],
  ["ArrowLeft", t("keys.previousPhoto"), () => stepImage(-1)],
  ["f", t("keys.onlyPhoto"), () => { current().onlyImage = !current().onlyImage; changed(); }],
  ["+", t("zoom.in"), () => viewport.zoom(1 / 1.5)],
  ["-", t("zoom.out"), () => viewport.zoom(1.5)],
  ["0", t("zoom.fitPhoto"), () => viewport.fit()],
  ["o", t("inspection.addPhotos"), () => byId("inspection-files").click()],
  ["v", t("keys.view"), () => byId("photo-view")?.focus()],
  ["c", t("inspection.compare"), () => { location.hash = compareAddress(current().inspection.id); }],
  ["r", t("inspection.report"), () => askReport()],
  ["Escape", t("keys.clear"), () => { current().findingId = null; changed(); }],
];

/** Return the shortcuts of the open view. @returns {Shortcut[]} */
export function shortcuts() {
  if (store.route.view === "list") return listShortcuts();
  if (store.route.view === "inspection" && store.current) return inspectionShortcuts();
  return [];
}

/** @type {Record<string, [number, number]>} */
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * Handle a key during an edit: arrows move the outline or the focused handle, Delete removes a vertex, Enter saves.
 * @param {KeyboardEvent} event
 * @returns {boolean} whether it was handled
 */
export function onEditKey(event) {
  const edit = store.route.view === "inspection" ? store.current?.edit : null;
  const image = currentImage();
  if (!edit || !image) return false;
  if (event.key === "Escape") {
    cancelEdit();
    return true;
  }
  const target = /** @type {HTMLElement} */ (event.target);
  if (target.matches("input, textarea, select, button")) return false;
  const handle = target.dataset?.handle ?? null;
  if (event.key === "Enter") {
    if (hasOutline(edit) || edit.kind !== "add") saveEdit();
    else placeBox();
    return true;
  }
  const arrow = ARROWS[event.key];
  if (arrow && edit.kind !== "note") {
    const step = pixelStep() * (event.shiftKey ? 10 : 1);
    const moved = moveBy(edit, handle, { x: arrow[0] * step, y: arrow[1] * step }, { w: image.width, h: image.height });
    edit.outlineChanged = true;
    editChanged();
    if (moved && moved !== handle) queueMicrotask(() => queueMicrotask(() => /** @type {HTMLElement | null} */ (document.querySelector(`[data-handle="${moved}"]`))?.focus()));
    return true;
  }
  if ((event.key === "Delete" || event.key === "Backspace") && handle) {
    removeVertex(edit, handle);
    edit.outlineChanged = true;
    editChanged();
    return true;
  }
  if ((event.key === "b" || event.key === "p") && hasOutline(edit)) {
    chooseShape(event.key === "b" ? "box" : "polygon");
    return true;
  }
  return false;
}
