// The inspections of the page: reads the address, loads what it names, and draws it.

import { byId, fill, h } from "../dom.js";
import { t } from "../language.js";
import { changed, notify, onChange } from "../state.js";
import { listenToShortcuts } from "../shortcuts.js";
import { assetView } from "./asset_view.js";
import { compareView, loadBefore, scaleCompare } from "./compare_view.js";
import { askConflict, askWaiting } from "./conflict_dialog.js";
import { resume, reviewer, unconfirmed, whenConflict, whenNameNeeded } from "./decisions.js";
import { askReviewer, closeDialog } from "./dialogs.js";
import { reviewerName } from "./drafts.js";
import { inspectionView } from "./inspection_view.js";
import { onEditKey, shortcuts } from "./keys.js";
import { listView } from "./list_view.js";
import { loadList, openAsset, openInspection, refresh, whenProblem } from "./loading.js";
import { get } from "./rest.js";
import { CHECK_ADDRESS, LIST_ADDRESS, readRoute } from "./router.js";
import { store } from "./state.js";
import { addPhotos, allUploads, isUploading } from "./uploads.js";
import { applyView } from "./viewer.js";

const VIEWS = { list: listView, inspection: inspectionView, compare: compareView, asset: assetView };

/** Whether the address names a view of the inspections, not the check of single photos. */
export const isOpen = () => store.isOn && store.route.view !== "check";

async function follow() {
  store.route = readRoute(location.hash);
  closeDialog();
  notify(null);
  changed();
  const { view, id } = store.route;
  if (view === "list") await loadList();
  if (view === "asset" && id) await openAsset(id);
  if ((view === "inspection" || view === "compare") && id) await openInspection(id);
  if (view === "compare") await loadBefore();
  window.scrollTo(0, 0);
}

function drawNavigation() {
  const { view } = store.route;
  const link = (/** @type {string} */ href, /** @type {string} */ text, /** @type {boolean} */ isCurrent) =>
    h("a", { href, "aria-current": isCurrent ? "page" : null, "data-key": href }, text);
  fill(byId("navigation"), link(LIST_ADDRESS, t("nav.inspections"), view !== "check"), link(CHECK_ADDRESS, t("nav.check"), view === "check"));
  byId("navigation").hidden = false;
  const name = reviewer();
  fill(byId("reviewer"), isOpen() && name && [
    h("span", { class: "quiet" }, t("name.is", { name })), " ",
    !store.settings?.reviewer && h("button", { type: "button", class: "link small", "data-key": "change-name", onclick: changeName }, t("name.change")),
  ]);
}

async function changeName() {
  const name = await askReviewer(reviewerName.get() ?? "");
  if (name) reviewerName.set(name);
  changed();
}

function draw() {
  askWaiting();
  const section = byId("inspections");
  section.hidden = !isOpen();
  document.body.classList.toggle("in-inspections", isOpen());
  drawNavigation();
  if (!isOpen()) return;
  const { problem, route } = store;
  fill(section,
    problem && h("div", { class: "page-width", "data-key": "problem" }, h("div", { class: "notice", role: "alert" }, h("strong", {}, problem.title), " ", problem.detail, " ",
      h("button", { type: "button", class: "link", "data-key": "retry", onclick: follow }, t("retry")), h("a", { href: LIST_ADDRESS }, t("list.title")))),
    VIEWS[/** @type {keyof typeof VIEWS} */ (route.view)]());
  applyView();
  scaleCompare();
}

function listenToFiles() {
  byId("inspection-files").addEventListener("change", (/** @type {any} */ event) => {
    addPhotos([...event.target.files]);
    event.target.value = "";
  });
}

/** @param {File[]} files */
export function takeFiles(files) {
  if (store.route.view === "inspection" && store.current?.inspection.status === "open") addPhotos(files);
  else notify(t("inspection.openFirst"), null, null, { info: true });
}

/** @param {BeforeUnloadEvent} event */
function warnOfLoss(event) {
  // Decisions and drafts survive a reload; files that are not sent yet do not.
  if (allUploads().some(isUploading)) event.preventDefault();
}

/** Show the inspections. */
export async function start() {
  store.settings = await get("/inspection-settings");
  store.isOn = true;
  whenProblem((problem) => notify(`${problem.title}. ${problem.detail}`, t("dialog.close"), () => notify(null)));
  whenConflict(askConflict);
  whenNameNeeded(() => askReviewer());
  onChange(draw);
  listenToShortcuts(isOpen, shortcuts, onEditKey);
  listenToFiles();
  window.addEventListener("hashchange", follow);
  window.addEventListener("beforeunload", warnOfLoss);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && isOpen() && store.current && !unconfirmed().length) refresh();
  });
  new ResizeObserver(() => { applyView(); scaleCompare(); }).observe(byId("inspections"));
  await follow();
  resume();
}
