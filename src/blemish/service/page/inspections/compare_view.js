// Before and after: both photos under one slider, and what became of each damage.

import { paletteColor } from "../colors.js";
import { h, s } from "../dom.js";
import { date, number, t, tValue } from "../language.js";
import { outlinePath } from "../outlines.js";
import { changed } from "../state.js";
import { labelNames, labelText } from "./labels.js";
import { mayWrite } from "./list_view.js";
import { openInspection, problemOf, showProblem } from "./loading.js";
import { largeUrl, smallUrl } from "./photos.js";
import { get, getAll, post } from "./rest.js";
import { assetAddress, inspectionAddress, LIST_ADDRESS } from "./router.js";
import { current, effective, ofImage, store } from "./state.js";

const CHANGE_ORDER = ["new", "worsened", "pre-existing", "repaired", "unknown"];
let share = 50; // of the width that shows the photo before, in percent

/** Load what the view needs of the previous inspection. */
export async function loadBefore() {
  const open = store.current;
  if (!open || open.before) return;
  const previousId = open.inspection.comparison?.previous_id ?? open.inspection.previous_id;
  open.before = { inspection: null, images: [], findings: [], choices: [], imageId: null, isBusy: false };
  const { before } = open;
  try {
    const others = await getAll(`/inspections?limit=100&asset_id=${open.inspection.asset_id}`);
    before.choices = others.filter((/** @type {InspectionOverview} */ i) => i.id !== open.inspection.id).sort((/** @type {any} */ a, /** @type {any} */ b) => (a.id < b.id ? 1 : -1));
    if (previousId) {
      const [inspection, images, findings] = await Promise.all([get(`/inspections/${previousId}`), get(`/inspections/${previousId}/images`), getAll(`/findings?limit=500&inspection_id=${previousId}`)]);
      Object.assign(before, { inspection, images: images.items, findings });
    }
  } catch (error) {
    store.problem = problemOf(error);
  }
  before.imageId = pairs()[0]?.image_id ?? open.images[0]?.id ?? null;
  changed();
}

/** @param {string} previousId */
async function compareWith(previousId) {
  const open = current();
  if (open.before) open.before.isBusy = true;
  changed();
  try {
    await post(`/inspections/${open.inspection.id}/comparison`, { previous_id: previousId });
    open.before = null;
    await openInspection(open.inspection.id);
    await loadBefore();
  } catch (error) {
    showProblem(error);
    if (open.before) open.before.isBusy = false;
  }
  changed();
}

/** @returns {ImagePair[]} */
const pairs = () => current().inspection.comparison?.pairs ?? [];

/**
 * Return a homography as the matrix of a CSS transform.
 * @param {number[][] | null} m (3, 3)
 */
const cssMatrix = (m) => (m ? `matrix3d(${[m[0][0], m[1][0], 0, m[2][0], m[0][1], m[1][1], 0, m[2][1], 0, 0, 1, 0, m[0][2], m[1][2], 0, m[2][2]].join(",")})` : "none");

/**
 * @param {InspectionImage} image
 * @param {StoredFinding[]} findings
 * @param {Record<string, string>} vars
 * @param {string} key
 */
function layer(image, findings, vars, key) {
  const url = largeUrl(image) ?? smallUrl(image.id);
  const names = labelNames();
  const shown = ofImage(findings, image.id).filter((f) => f.state !== "rejected");
  return h("div", { class: `layer ${key}`, "data-key": key, vars },
    s("svg", { viewBox: `0 0 ${image.width} ${image.height}`, width: image.width, height: image.height, "data-key": "svg", "aria-hidden": "true" },
      url && s("image", { href: url, width: image.width, height: image.height, preserveAspectRatio: "none", "data-key": "pixels" }),
      shown.map((f) => {
        const d = outlinePath(effective(f));
        return s("g", { class: `finding ${f.change || ""}` }, s("path", { d, class: "halo" }), s("path", { d, class: "line", vars: { "--label": paletteColor(names.indexOf(effective(f).label)) } }));
      })));
}

function slider() {
  const open = current();
  const { before } = open;
  const after = open.images.find((i) => i.id === before?.imageId);
  if (!before?.inspection || !after) return null;
  const pair = pairs().find((p) => p.image_id === after.id);
  const earlier = before.images.find((i) => i.id === pair?.previous_image_id);
  const scaled = earlier && !pair?.matrix ? `scale(${after.width / earlier.width}, ${after.height / earlier.height})` : cssMatrix(pair?.matrix ?? null);
  const values = t("compare.value", { n: share });
  return h("figure", { class: "compare-figure", "data-key": "figure" },
    h("div", { class: "compare-stage", "data-key": "stage", vars: { "--w": String(after.width), "--h": String(after.height), "--share": `${share}%` } },
      h("div", { class: "layers", "data-key": "layers" },
        layer(after, open.findings, {}, "after"),
        earlier && h("div", { class: "before-clip", "data-key": "clip" }, layer(earlier, before.findings, { "--matrix": scaled }, "before"))),
      earlier && h("div", { class: "divider", "aria-hidden": "true", "data-key": "divider" }),
      earlier && h("input", {
        type: "range", id: "compare-slider", "data-key": "compare-slider", min: 0, max: 100, step: 1, value: share, "aria-label": t("compare.slider"), "aria-valuetext": values,
        oninput: (/** @type {any} */ event) => { share = Number(event.target.value); changed(); },
      }),
      earlier && h("span", { class: "side left", "data-key": "left" }, `${t("compare.before")}, ${date(before.inspection.created_at)}`),
      h("span", { class: "side right", "data-key": "right" }, `${t("compare.after")}, ${date(open.inspection.created_at)}`)),
    h("figcaption", { class: "quiet", "data-key": "caption" }, earlier ? t(pair?.matrix ? "compare.registered" : "compare.notRegistered") : t("compare.noCounterpart")));
}

/** Scale the photos, which are laid out in their own pixels, to the width of the stage. */
export function scaleCompare() {
  const stage = /** @type {HTMLElement | null} */ (document.querySelector(".compare-stage"));
  const width = Number(stage?.style.getPropertyValue("--w"));
  if (stage && width) stage.style.setProperty("--scale", String(stage.clientWidth / width));
}

/** @param {Change} change */
function changeRow(change) {
  const open = current();
  const findings = change.group_id ? open.findings.filter((f) => (f.group_id ?? f.id) === change.group_id) : (open.before?.findings ?? []).filter((f) => (f.group_id ?? f.id) === change.previous_group_id);
  const [first] = findings;
  const show = () => {
    if (!open.before || !first) return;
    const pair = change.group_id ? null : pairs().find((p) => p.previous_image_id === first.image_id);
    open.before.imageId = change.group_id ? first.image_id : pair?.image_id ?? open.before.imageId;
    share = change.change === "repaired" ? 90 : 20;
    changed();
  };
  return h("tr", { "data-key": `${change.group_id}-${change.previous_group_id}`, onclick: show },
    h("td", {}, h("span", { class: `change ${change.change}` }, tValue("change", change.change))),
    h("td", {}, h("button", { type: "button", class: "link row", "data-key": `change-${change.group_id ?? change.previous_group_id}` }, labelText(change.label))),
    h("td", { class: "quiet" }, tValue("basis", change.basis)));
}

/** Return the view. */
export function compareView() {
  const open = store.current;
  if (!open?.before) return h("div", { class: "page-width", "data-key": "compare-loading" }, !store.problem && h("p", { class: "quiet" }, t("loading")));
  const { inspection, before } = open;
  const { comparison } = inspection;
  const previousId = comparison?.previous_id ?? inspection.previous_id ?? before.choices[0]?.id ?? "";
  const changes = [...(comparison?.changes ?? [])].sort((a, b) => CHANGE_ORDER.indexOf(a.change) - CHANGE_ORDER.indexOf(b.change));
  const counts = CHANGE_ORDER.map((kind) => ({ kind, n: changes.filter((c) => c.change === kind).length })).filter(({ n }) => n);
  const compared = open.images.filter((i) => pairs().some((p) => p.image_id === i.id));
  return h("div", { class: "case", "data-key": "compare" },
    h("header", { class: "case-head", "data-key": "head" },
      h("p", { class: "crumbs" }, h("a", { href: LIST_ADDRESS, "data-key": "to-list" }, t("list.title")), " / ", h("a", { href: assetAddress(inspection.asset.id), "data-key": "to-asset" }, inspection.asset.reference), " / ",
        h("a", { href: inspectionAddress(inspection.id), "data-key": "to-inspection" }, date(inspection.created_at))),
      h("div", { class: "case-title" },
        h("h2", { class: "decision-text" }, comparison ? (counts.map(({ kind, n }) => `${number(n)} ${tValue("change", kind)}`).join(", ") || t("compare.nothing")) : t("compare.title")),
        h("span", { class: "grow" }),
        before.choices.length > 0 && h("div", { class: "row-of-buttons" },
          h("select", { id: "compare-previous", "data-key": "compare-previous", "aria-label": t("create.previous") }, before.choices.map((i) => h("option", { value: i.id, selected: i.id === previousId }, `${tValue("phase", i.phase)}, ${date(i.created_at)} …${i.id.slice(-4)}`))),
          mayWrite() && h("button", { type: "button", class: comparison ? "" : "primary", "data-key": "compare-now", disabled: before.isBusy, onclick: () => compareWith(/** @type {HTMLSelectElement} */ (document.getElementById("compare-previous")).value) }, t(before.isBusy ? "compare.busy" : comparison ? "compare.again" : "compare.now"))))),
    !before.choices.length && h("p", { class: "page-width quiet", "data-key": "none" }, t("compare.noOther")),
    comparison && h("div", { class: "case-body", "data-key": "body" },
      h("section", { class: "case-stage", "aria-label": t("compare.title"), "data-key": "stage" },
        compared.length > 1 && h("nav", { class: "strip small", "aria-label": t("strip.title"), "data-key": "strip" }, h("ol", {}, compared.map((i) => {
          const url = smallUrl(i.id);
          return h("li", { class: `tile${before.imageId === i.id ? " selected" : ""}`, "data-key": i.id }, h("button", { type: "button", "aria-current": before.imageId === i.id ? "true" : null, "data-key": `pair-${i.id}`, onclick: () => { before.imageId = i.id; changed(); } },
            h("span", { class: "tile-photo" }, url && h("img", { src: url, alt: "" })), h("span", { class: "tile-name" }, i.view || i.file_name)));
        }))),
        slider()),
      h("div", { class: "case-panel", "data-key": "panel" },
        h("section", { class: "findings-section", "aria-label": t("compare.changes") },
          h("div", { class: "section-head" }, h("h2", {}, t("compare.changes"), h("span", { class: "count" }, number(changes.length)))),
          h("table", { class: "findings review-table" }, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, t("compare.change")), h("th", { scope: "col" }, t("findings.label")), h("th", { scope: "col" }, t("compare.basis")))), h("tbody", {}, changes.map(changeRow))),
          h("p", { class: "quiet" }, t(comparison.registration === "available" ? "compare.how" : "compare.noRegistration"))))));
}
