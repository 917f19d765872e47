// Reads lists and inspections from the store into the state.

import { RefusedRequest } from "../api.js";
import { announce, changed } from "../state.js";
import { t } from "../language.js";
import { readDraft } from "./drafts.js";
import { get, getAll } from "./rest.js";
import { currentFinding, isUndecided, store } from "./state.js";

const PAGE = 50;
let listRequest = 0; // the newest; answers of older ones are ignored

/** @param {unknown} error */
export const problemOf = (error) => (error instanceof RefusedRequest ? error.problem : { code: "page-failed", title: t("problem.page"), detail: String(error) });

/** @type {(problem: PageProblem) => void} */
let onProblem = () => {};
/** @param {(problem: PageProblem) => void} callback */
export const whenProblem = (callback) => { onProblem = callback; };

/** @param {unknown} error */
export function showProblem(error) {
  onProblem(problemOf(error));
}

/** @param {{ more?: boolean }} [options] `more`: add the next page */
export async function loadList({ more = false } = {}) {
  const request = (listRequest += 1);
  const { list } = store;
  const query = new URLSearchParams({ limit: String(PAGE) });
  if (list.filter.reference) query.set("reference", list.filter.reference);
  if (list.filter.kind) query.set("kind", list.filter.kind);
  if (list.filter.show === "review") query.set("needs_review", "true");
  if (list.filter.show === "open" || list.filter.show === "review") query.set("status", "open");
  if (list.filter.show === "closed") query.set("status", "closed");
  if (more && list.cursor) query.set("cursor", list.cursor);
  try {
    const page = await get(`/inspections?${query}`);
    if (request !== listRequest) return;
    list.items = more ? [...(list.items ?? []), ...page.items] : page.items;
    list.cursor = page.next_cursor;
    store.problem = null;
  } catch (error) {
    if (request === listRequest) store.problem = problemOf(error);
  }
  changed();
}

/**
 * Photos of one selection arrive in any order, so that the strip shows them by the names of their files.
 * @type {(a: InspectionImage, b: InspectionImage) => number}
 */
export const byFileName = (a, b) => a.file_name.localeCompare(b.file_name, undefined, { numeric: true }) || (a.id < b.id ? -1 : 1);

/**
 * Return everything that the page shows of an inspection.
 * @param {string} id
 */
async function readInspection(id) {
  const [inspection, images, findings, reviews, reports] = await Promise.all([
    get(`/inspections/${id}`),
    get(`/inspections/${id}/images`),
    getAll(`/findings?limit=500&inspection_id=${id}`),
    get(`/inspections/${id}/reviews`),
    get(`/inspections/${id}/reports`),
  ]);
  const sheets = inspection.asset.kind === "pv_module" ? (await get(`/inspections/${id}/modules`)).items : [];
  images.items.sort(byFileName);
  return { inspection, images: images.items, findings: findings.reverse(), reviews: reviews.items, reports: reports.items, sheets };
}

/** @param {string} id */
export async function openInspection(id) {
  if (store.current?.inspection.id === id) {
    await refresh();
    return;
  }
  store.current = null;
  store.problem = null;
  changed();
  try {
    const read = await readInspection(id);
    if (store.route.id !== id) return;
    sortFindings(read.findings);
    const first = read.findings.find(isUndecided) ?? null;
    store.current = {
      ...read,
      imageId: first?.image_id ?? read.images[0]?.id ?? null,
      findingId: first?.id ?? null,
      onlyImage: false,
      sort: "number",
      run: null,
      edit: null,
      before: null,
    };
    const draft = readDraft(id);
    if (draft && read.images.some((/** @type {InspectionImage} */ i) => i.id === draft.imageId)) {
      store.current.edit = { ...draft, restored: true };
      store.current.imageId = draft.imageId;
      store.current.findingId = draft.findingId;
    }
  } catch (error) {
    if (store.route.id === id) store.problem = problemOf(error);
  }
  changed();
}

/** @param {StoredFinding[]} findings by id, which is by time */
const sortFindings = (findings) => findings.sort((a, b) => (a.id < b.id ? -1 : 1));

/** Read the open inspection again; the selection and unsaved work stay. */
export async function refresh() {
  const open = store.current;
  if (!open) return;
  try {
    const read = await readInspection(open.inspection.id);
    if (store.current !== open) return;
    sortFindings(read.findings);
    Object.assign(open, read);
    if (!open.images.some((i) => i.id === open.imageId)) open.imageId = open.images[0]?.id ?? null;
    if (open.findingId && !currentFinding()) open.findingId = null;
  } catch (error) {
    showProblem(error);
  }
  changed();
}

/** Read the summary, and one finding, after a decision. */
export async function refreshFinding(/** @type {string | null} */ findingId) {
  const open = store.current;
  if (!open) return;
  const id = open.inspection.id;
  const [inspection, finding] = await Promise.all([get(`/inspections/${id}`), findingId && get(`/findings/${findingId}`)]);
  if (store.current !== open) return;
  open.inspection = inspection;
  if (finding) {
    const { reviews, effective, ...stored } = finding;
    const position = open.findings.findIndex((f) => f.id === findingId);
    if (position >= 0) open.findings[position] = stored;
    else open.findings.push(stored);
    open.reviews = [...open.reviews.filter((r) => r.finding_id !== findingId), ...reviews].sort((a, b) => (a.id < b.id ? -1 : 1));
  }
  changed();
}

/** @param {string} id */
export async function openAsset(id) {
  store.asset = null;
  store.problem = null;
  changed();
  try {
    const [asset, inspections] = await Promise.all([get(`/assets/${id}`), getAll(`/inspections?limit=100&asset_id=${id}`)]);
    inspections.sort((a, b) => (a.id < b.id ? 1 : -1));
    if (store.route.id !== id) return;
    store.asset = { asset, inspections, summaries: {} };
    changed();
    for (const { id: inspectionId } of inspections) { // one after another: each reads all findings
      const { summary, comparison } = await get(`/inspections/${inspectionId}`);
      if (store.asset?.asset.id !== id) return;
      store.asset.summaries[inspectionId] = { ...summary, comparison };
      changed();
    }
  } catch (error) {
    if (store.route.id === id) store.problem = problemOf(error);
  }
  changed();
  announce("");
}
