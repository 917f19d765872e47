// Reports and labels of an inspection as files.

import { save } from "../save.js";
import { h } from "../dom.js";
import { dateTime, t } from "../language.js";
import { storedText } from "../browser_storage.js";
import { announce } from "../state.js";
import { reviewer } from "./decisions.js";
import { ask, choice, field } from "./dialogs.js";
import { problemOf, refresh } from "./loading.js";
import { getFile, post } from "./rest.js";
import { current, store } from "./state.js";

const company = storedText("localStorage", "blemish-company");
/** @param {string} id */
const value = (id) => /** @type {HTMLInputElement} */ (document.getElementById(id)).value.trim();
/** @param {string} text */
const fileName = (text) => text.replace(/[^\p{L}\p{N}._-]+/gu, "_").slice(0, 80);

/**
 * @param {string} id of a report
 * @param {string} name
 */
async function saveReport(id, name) {
  const { blob } = await getFile(`/reports/${id}/content`);
  save(name, blob);
}

/** Ask what to print on a report, and write it. */
export function askReport() {
  const open = current();
  const { asset, id } = open.inspection;
  return ask(t("report.title"), (close) => {
    const problem = h("p", { class: "problem", role: "alert", hidden: true });
    const busy = h("p", { class: "quiet", role: "status" });
    /** @param {string} format */
    const write = async (format) => {
      problem.hidden = true;
      busy.textContent = t("report.writing");
      company.set(value("report-company"));
      const options = Object.fromEntries([["company", value("report-company")], ["claim", value("report-claim")], ["inspector", value("report-inspector")]].filter(([, text]) => text));
      try {
        const report = await post(`/inspections/${id}/reports`, { format, options });
        await saveReport(report.id, `${fileName(asset.reference)}-${report.id.slice(-6)}.${format}`);
        busy.textContent = t("report.saved");
        announce(t("report.saved"));
        await refresh();
        earlier.replaceChildren(...earlierReports());
      } catch (error) {
        busy.textContent = "";
        problem.hidden = false;
        problem.textContent = problemOf(error).detail;
      }
    };
    const earlierReports = () => (store.current?.reports.length ? [
      h("h3", {}, t("report.earlier")),
      h("ul", { class: "plain" }, [...store.current.reports].reverse().slice(0, 8).map((report) => h("li", {},
        h("button", { type: "button", class: "link", onclick: () => saveReport(report.id, `${fileName(asset.reference)}-${report.id.slice(-6)}.${report.format}`) }, `${report.format.toUpperCase()}, ${dateTime(report.created_at)}`)))),
    ] : []);
    const earlier = h("div", {}, earlierReports());
    const undecided = open.inspection.summary.open_findings;
    return [
      undecided > 0 && h("p", { class: "outcome review" }, t("report.undecided", { n: undecided })),
      h("div", { class: "two-fields" },
        field("report-company", t("report.company"), { maxlength: 200, value: company.get() ?? "" }),
        field("report-claim", t("report.claim"), { maxlength: 200 })),
      field("report-inspector", t("report.inspector"), { maxlength: 200, value: reviewer() ?? "" }),
      h("div", { class: "row-of-buttons" }, ["pdf", "html", "csv"].map((format, i) => h("button", { type: "button", id: `report-${format}`, class: i ? "" : "primary", onclick: () => write(format) }, format.toUpperCase())), h("span", { class: "grow" }), h("button", { type: "button", onclick: () => close(null) }, t("dialog.close"))),
      busy,
      problem,
      earlier,
    ];
  }, { value: null });
}

/** Ask for a format, and save the reviewed labels in it. */
export function askLabels() {
  const { asset, id, summary } = current().inspection;
  const formats = store.settings?.label_formats ?? ["coco"];
  const first = ["coco", "yolo", "voc", "cvat", "labelstudio"].filter((name) => formats.includes(name));
  const ordered = [...first, ...formats.filter((name) => !first.includes(name))];
  return ask(t("labels.title"), (close) => {
    const problem = h("p", { class: "problem", role: "alert", hidden: true });
    const busy = h("p", { class: "quiet", role: "status" });
    const write = async () => {
      problem.hidden = true;
      busy.textContent = t("report.writing");
      const format = value("labels-format");
      try {
        const { blob, response } = await getFile(`/inspections/${id}/labels?format=${encodeURIComponent(format)}`);
        save(`${fileName(asset.reference)}-${format}.zip`, blob);
        const left = Number(response.headers.get("X-Images-Left-Out"));
        busy.textContent = left ? t("labels.savedLeftOut", { n: left }) : t("labels.saved");
      } catch (error) {
        busy.textContent = "";
        problem.hidden = false;
        problem.textContent = problemOf(error).detail;
      }
    };
    return [
      h("p", {}, t("labels.what")),
      summary.open_findings > 0 && h("p", { class: "outcome review" }, t("labels.undecided", { n: summary.open_findings })),
      choice("labels-format", t("labels.format"), ordered.map((name) => ({ value: name, text: name })), ordered[0]),
      h("div", { class: "row-of-buttons" }, h("button", { type: "button", class: "primary", id: "labels-save", onclick: write }, t("labels.save")), h("button", { type: "button", onclick: () => close(null) }, t("dialog.close"))),
      busy,
      problem,
    ];
  }, { value: null });
}
