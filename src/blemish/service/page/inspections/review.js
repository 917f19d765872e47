// What a person does with findings: decide, edit, add and note. The buttons and the keys call the same functions.

import { t, tValue } from "../language.js";
import { announce, changed, notify } from "../state.js";
import { add, decide, withUnconfirmed } from "./decisions.js";
import { writeDraft } from "./drafts.js";
import { stepFinding } from "./findings_table.js";
import { labelNames, labelText } from "./labels.js";
import { changeShape, editableRings, editedOutline, hasOutline, startBox } from "./outline_editor.js";
import { current, currentFinding, currentImage, effective, store } from "./state.js";
import { viewport } from "./viewer.js";

/** @returns {boolean} */
export const isClosed = () => store.current?.inspection.status === "closed";
/** @returns {boolean} */
export const mayReview = () => !store.settings || store.settings.scopes.includes("review") || store.settings.scopes.includes("admin");

function refuseIfClosed() {
  if (!isClosed()) return false;
  notify(t("inspection.closedNote"), null, null, { info: true });
  return true;
}

/** @param {"accept" | "reject" | "contest"} action */
export async function decideSelected(action) {
  const finding = currentFinding();
  if (!finding || current().edit || refuseIfClosed()) return;
  if (!(await decide(finding, { action }))) return;
  const name = labelText(effective(finding).label);
  const next = stepFinding(1, { undecided: true });
  announce(`${name}: ${tValue("action", action)}. ${next ? t("review.next", { label: labelText(effective(next).label) }) : t("review.allDecided")}`);
}

/** @param {Edit | null} edit */
function setEdit(edit) {
  const open = current();
  open.edit = edit;
  writeDraft(open.inspection.id, edit);
  changed();
}

/** Save the draft after a change of the edit in place. */
export function editChanged() {
  writeDraft(current().inspection.id, current().edit);
  changed();
}

/**
 * Start to edit the selected finding.
 * @param {"label" | "box" | "polygon" | "note"} focus what the person wants to change
 */
export function startEdit(focus) {
  const finding = currentFinding();
  if (!finding || current().edit || refuseIfClosed()) return;
  const values = effective(withUnconfirmed(finding));
  const isPolygon = focus === "polygon" || (focus !== "box" && Boolean(values.polygons?.length));
  /** @type {Edit} */
  const edit = {
    kind: focus === "note" ? "note" : "edit",
    imageId: finding.image_id,
    findingId: finding.id,
    label: values.label,
    part: values.part,
    severity: "",
    note: "",
    shape: isPolygon ? "polygon" : "box",
    box: values.box_xyxy ? [...values.box_xyxy] : null,
    rings: editableRings(values.polygons ?? []),
    outlineChanged: focus === "box" || focus === "polygon",
    restored: false,
  };
  if (focus === "polygon" && !edit.rings.length) {
    edit.shape = "box";
    changeShape(edit, "polygon");
  }
  setEdit(edit);
  focusEditor(focus === "note" ? "edit-note" : focus === "label" ? "edit-label" : "open-photo");
}

export function startAdd() {
  const image = currentImage();
  if (!image || current().edit || refuseIfClosed()) return;
  current().findingId = null;
  setEdit({
    kind: "add", imageId: image.id, findingId: null, label: lastLabel ?? labelNames()[0] ?? "", part: "", severity: "", note: "", shape: "box", box: null, rings: [],
    outlineChanged: true, restored: false,
  });
  viewport.fit();
  focusEditor("open-photo");
}

/** @type {string | null} the label that was added last */
let lastLabel = null;

/** Put a box in the middle, for use without a pointer. */
export function placeBox() {
  const { edit } = current();
  const view = viewport.shown();
  if (!edit || !view || hasOutline(edit)) return;
  startBox(edit, view);
  edit.outlineChanged = true;
  editChanged();
  focusEditor("handle-se");
}

/** @param {"box" | "polygon"} shape */
export function chooseShape(shape) {
  const { edit } = current();
  if (!edit || edit.kind === "note") return;
  changeShape(edit, shape);
  edit.outlineChanged = true;
  editChanged();
  if (!document.activeElement?.matches("input, textarea, select")) focusEditor("open-photo");
}

/** @param {string | null} key */
function focusEditor(key) {
  if (!key) return;
  queueMicrotask(() => queueMicrotask(() => {
    const element = /** @type {HTMLInputElement | null} */ (document.querySelector(`[data-key="${key}"]`));
    element?.focus();
    element?.select?.();
  }));
}

export function cancelEdit() {
  const { edit } = current();
  if (!edit) return;
  const key = edit.findingId ? `row-${edit.findingId}` : null;
  setEdit(null);
  focusEditor(key);
}

/**
 * Return why an edit cannot be saved, or null.
 * @param {Edit} edit
 */
export function editProblem(edit) {
  if (edit.kind === "note") return edit.note.trim() ? null : t("edit.needsNote");
  if (!edit.label.trim()) return t("edit.needsLabel");
  if (edit.kind === "add" && !hasOutline(edit)) return t("edit.needsOutline");
  return null;
}

export async function saveEdit() {
  const open = current();
  const { edit } = open;
  if (!edit || editProblem(edit)) return;
  const note = edit.note.trim();
  const outline = edit.outlineChanged && hasOutline(edit) ? editedOutline(edit) : {};
  const severity = edit.severity ? { severity_level: edit.severity } : {};
  let saved;
  if (edit.kind === "add") {
    lastLabel = edit.label.trim();
    saved = await add(open.inspection.id, { image_id: edit.imageId, label: lastLabel, part: edit.part.trim(), note, ...editedOutline(edit) });
  } else {
    const finding = open.findings.find((f) => f.id === edit.findingId);
    if (!finding) return;
    const before = effective(withUnconfirmed(finding));
    /** @type {Record<string, any>} */
    const changes = { ...outline, ...severity };
    if (edit.label.trim() !== before.label) changes.label = edit.label.trim();
    if (edit.part.trim() !== before.part) changes.part = edit.part.trim();
    const isNote = edit.kind === "note" || (!Object.keys(changes).length && note);
    if (!isNote && !Object.keys(changes).length) {
      cancelEdit();
      return;
    }
    saved = await decide(finding, isNote ? { action: "note", note } : { action: "edit", changes, note });
  }
  if (!saved) return;
  const key = edit.findingId ? `row-${edit.findingId}` : null;
  setEdit(null);
  announce(t("edit.saved"));
  focusEditor(key);
}
