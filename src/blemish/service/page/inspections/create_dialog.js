// A new inspection: of a new asset, or of one that the store has.

import { RefusedRequest } from "../api.js";
import { h } from "../dom.js";
import { date, t, tValue } from "../language.js";
import { ask, choice, field } from "./dialogs.js";
import { problemOf } from "./loading.js";
import { get, getAll, newKey, post } from "./rest.js";
import { inspectionAddress } from "./router.js";
import { store } from "./state.js";

/** @type {Record<string, { views: string, severity: string }>} what is offered for a kind of asset; a person can change it */
const PRESETS = {
  vehicle: { views: "front, rear, left, right", severity: "vehicle" },
  pv_module: { views: "", severity: "el-crack" },
  structure: { views: "", severity: "structure" },
};

/**
 * Return the asset with a kind and a reference; it is created if the store has none.
 * @param {string} kind
 * @param {string} reference
 */
async function findOrCreateAsset(kind, reference) {
  try {
    return await post("/assets", { kind, reference }, { key: newKey() });
  } catch (error) {
    if (!(error instanceof RefusedRequest) || error.problem.code !== "conflict.asset-exists") throw error;
    const items = await getAll(`/assets?limit=500&kind=${kind}&reference=${encodeURIComponent(reference)}`);
    return items.find((/** @type {Asset} */ asset) => asset.reference === reference);
  }
}

/**
 * Ask for what a new inspection needs, create it and open it.
 * @param {{ asset?: Asset, previousId?: string }} [known] of an asset that has been inspected before
 */
export async function openCreateDialog({ asset, previousId } = {}) {
  const settings = store.settings;
  if (!settings) return;
  const kind = asset?.kind ?? store.list.filter.kind ?? "";
  const values = { kind: kind || settings.asset_kinds[0] };
  const value = (/** @type {string} */ id) => /** @type {HTMLInputElement} */ (document.getElementById(id)).value.trim();
  const created = await ask(asset ? t("create.titleAgain", { reference: asset.reference }) : t("create.title"), (close) => {
    const problem = h("p", { class: "problem", role: "alert", hidden: true });
    const views = h("input", { id: "new-views", type: "text", autocomplete: "off", value: PRESETS[values.kind]?.views ?? "" });
    const severities = ["", ...settings.severities].map((name) => ({ value: name, text: name ? tValue("rules", name) : t("create.noSeverity") }));
    const severity = choice("new-severity", t("create.severity"), severities, PRESETS[values.kind]?.severity ?? "");
    const previous = h("div", { class: "field", hidden: !asset });
    const create = async () => {
      const reference = asset?.reference ?? value("new-reference");
      if (!reference) {
        document.getElementById("new-reference")?.focus();
        return;
      }
      button.disabled = true;
      try {
        const found = asset ?? (await findOrCreateAsset(value("new-asset-kind"), reference));
        const inspection = await post("/inspections", {
          asset_id: found.id,
          kind: value("new-kind"),
          phase: value("new-phase"),
          previous_id: asset ? value("new-previous") || null : null,
          required_views: [...new Set(value("new-views").split(",").map((v) => v.trim()).filter(Boolean))],
          severity: value("new-severity") || null,
        }, { key: newKey() });
        close(inspection.id);
      } catch (error) {
        button.disabled = false;
        problem.hidden = false;
        problem.textContent = problemOf(error).detail;
      }
    };
    const onkeydown = (/** @type {KeyboardEvent} */ event) => event.key === "Enter" && create();
    const button = h("button", { type: "button", class: "primary", id: "new-create", onclick: create }, t("create.create"));
    const onKind = (/** @type {any} */ event) => {
      const preset = PRESETS[event.target.value];
      views.value = preset?.views ?? "";
      /** @type {HTMLSelectElement} */ (severity.querySelector("select")).value = preset?.severity ?? "";
    };
    if (asset) {
      get(`/inspections?limit=100&asset_id=${asset.id}`).then(({ items }) => {
        const earlier = items.sort((/** @type {any} */ a, /** @type {any} */ b) => (a.id < b.id ? 1 : -1));
        previous.replaceChildren(...choice("new-previous", t("create.previous"), [
          { value: "", text: t("create.noPrevious") },
          ...earlier.map((/** @type {InspectionOverview} */ i) => ({ value: i.id, text: `${tValue("phase", i.phase)}, ${date(i.created_at)}` })),
        ], previousId ?? earlier[0]?.id ?? "").childNodes);
      }).catch(() => {});
      previous.replaceChildren(h("select", { id: "new-previous" }, h("option", { value: previousId ?? "" }, "…")));
    }
    return [
      !asset && field("new-reference", t("create.reference"), { maxlength: 200, autofocus: true, onkeydown }, t("create.referenceHelp")),
      !asset && choice("new-asset-kind", t("create.assetKind"), settings.asset_kinds.map((k) => ({ value: k, text: tValue("kind", k) })), values.kind, onKind),
      h("div", { class: "two-fields" },
        choice("new-phase", t("create.phase"), settings.phases.map((p) => ({ value: p, text: tValue("phase", p) })), asset ? "after" : "periodic"),
        field("new-kind", t("create.kind"), { maxlength: 64, onkeydown, placeholder: t("create.kindExample") })),
      previous,
      h("div", { class: "field" }, h("label", { for: "new-views" }, t("create.views")), views, h("p", { class: "quiet" }, t("create.viewsHelp"))),
      severity,
      problem,
      h("div", { class: "row-of-buttons" }, button, h("button", { type: "button", onclick: () => close(null) }, t("dialog.cancel"))),
    ];
  }, { value: /** @type {string | null} */ (null) });
  if (created) location.hash = inspectionAddress(created);
}
