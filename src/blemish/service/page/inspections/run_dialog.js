// How the model runs over the photos of an inspection; asked once for each model and kind of asset.

import { storedText } from "../browser_storage.js";
import { h } from "../dom.js";
import { t } from "../language.js";
import { findModel, state } from "../state.js";
import { ask, choice, field } from "./dialogs.js";
import { current } from "./state.js";

/** @typedef {{ cells: boolean, grid: string, normal: string[] }} RunOptions */

/** @param {ModelDescription} model @param {string} kind of the asset */
const storedOptions = (model, kind) => storedText("localStorage", `blemish-run-${model.model_digest.slice(0, 16)}-${kind}`);

/**
 * Forget the answer, so that the page asks again after a run that failed.
 * @param {string} kind of the asset
 */
export function forgetRunOptions(kind) {
  const model = findModel(state.model);
  if (model) storedOptions(model, kind).set(null);
}

/**
 * Return how the selected model runs, or null if the person canceled.
 * @returns {Promise<RunOptions | null>}
 */
export async function runOptions() {
  const model = findModel(state.model);
  const { asset } = current().inspection;
  const isModule = asset.kind === "pv_module";
  const isWhole = model?.task === "classification" || model?.task === "multilabel";
  if (!model || !isWhole || (model.task === "multilabel" && !isModule)) return { cells: false, grid: "auto", normal: [] };
  const stored = storedOptions(model, asset.kind);
  if (stored.get()) return JSON.parse(/** @type {string} */ (stored.get()));
  const options = await ask(t("runs.title", { model: model.name }), (close) => {
    const boxes = model.labels.map((l) => h("label", { class: "choice" }, h("input", { type: "checkbox", value: l.label, class: "normal-label" }), ` ${l.display_name}`));
    const problem = h("p", { class: "problem", role: "alert", hidden: true }, t("runs.needsNormal"));
    const use = () => {
      const cells = isModule && /** @type {HTMLSelectElement} */ (document.getElementById("run-cells")).value === "cells";
      const grid = isModule ? /** @type {HTMLInputElement} */ (document.getElementById("run-grid")).value.trim() || "auto" : "auto";
      const normal = [...document.querySelectorAll(".normal-label:checked")].map((box) => /** @type {HTMLInputElement} */ (box).value);
      problem.hidden = normal.length > 0 || !cells || model.task !== "classification"; // it gives every cell a label
      if (problem.hidden) close({ cells, grid, normal });
    };
    return [
      isModule && choice("run-cells", t("runs.what"), [{ value: "cells", text: t("runs.cells") }, { value: "photos", text: t("runs.photos") }], "cells"),
      isModule && field("run-grid", t("runs.grid"), { value: "auto", maxlength: 9 }, t("runs.gridHelp")),
      h("fieldset", {}, h("legend", {}, t("runs.normal")), boxes),
      problem,
      h("p", { class: "quiet" }, t("runs.remembered")),
      h("div", { class: "row-of-buttons" }, h("button", { type: "button", class: "primary", id: "run-start", onclick: use }, t("runs.start")), h("button", { type: "button", onclick: () => close(null) }, t("dialog.cancel"))),
    ];
  }, { value: /** @type {RunOptions | null} */ (null) });
  if (options) stored.set(JSON.stringify(options));
  return options;
}
