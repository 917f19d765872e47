// Another person changed a finding first: both versions side by side, and a choice.

import { h } from "../dom.js";
import { dateTime, t, tValue } from "../language.js";
import { ask } from "./dialogs.js";
import { labelText } from "./labels.js";
import { effective, store } from "./state.js";

/** @param {FindingValues} values */
const outlineText = (values) => (values.polygons?.length ? t("edit.polygon") : values.box_xyxy ? `${t("edit.box")} ${values.box_xyxy.map(Math.round).join(", ")}` : "–");

const AFTER = /** @type {Record<string, string>} */ ({ accept: "accepted", reject: "rejected", edit: "accepted", contest: "contested" });

const isEditing = () => store.route.view === "inspection" && Boolean(store.current?.edit);
/** @type {(() => void) | null} */
let onEditEnd = null;

/** Ask the question that waits for the end of an edit. */
export function askWaiting() {
  if (isEditing()) return;
  onEditEnd?.();
  onEditEnd = null;
}

/**
 * Ask whether a decision is applied to a finding that has changed since. The question waits until no edit is
 * open: otherwise keys that are meant for the edit would answer it.
 * @param {PendingDecision} decision
 * @param {any} theirs the finding as it is now, with its reviews
 * @returns {Promise<boolean>}
 */
export async function askConflict(decision, theirs) {
  if (isEditing()) await new Promise((resolve) => { onEditEnd = () => resolve(null); });
  const now = effective(theirs);
  const { body } = decision;
  const mine = { ...now, ...(body.changes ?? {}) };
  const last = theirs.reviews[theirs.reviews.length - 1];
  /** @type {[string, string, string][]} */
  const rows = [
    [t("findings.state"), tValue("state", theirs.state), tValue("state", AFTER[body.action] ?? theirs.state)],
    [t("findings.label"), labelText(now.label), labelText(mine.label)],
    [t("findings.part"), now.part || "–", mine.part || "–"],
    [t("findings.severity"), now.severity_level || "–", body.changes && !("severity_level" in body.changes) ? t("edit.severityByRules") : mine.severity_level || "–"],
    [t("edit.outline"), outlineText(now), outlineText(mine)],
    [t("edit.note"), last?.note || "–", body.note || "–"],
  ];
  return ask(t("conflict.title"), (close) => [
    h("p", {}, last ? t("conflict.who", { name: last.reviewer, time: dateTime(last.created_at), action: tValue("action", last.action) }) : t("conflict.changed")),
    h("table", { class: "conflict" },
      h("thead", {}, h("tr", {}, h("td", {}), h("th", { scope: "col" }, t("conflict.theirs")), h("th", { scope: "col" }, t("conflict.mine")))),
      h("tbody", {}, rows.map(([name, a, b]) => h("tr", { class: a === b ? "same" : "differs" }, h("th", { scope: "row" }, name), h("td", {}, a), h("td", {}, b))))),
    h("div", { class: "row-of-buttons" },
      h("button", { type: "button", class: "primary", id: "conflict-keep", onclick: () => close(false) }, t("conflict.keepTheirs")),
      h("button", { type: "button", id: "conflict-apply", onclick: () => close(true) }, t("conflict.applyMine"))),
  ], { value: false, mustAnswer: true, wide: true });
}
