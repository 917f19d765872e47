// Photos on their way into an inspection: a few at a time, each with its progress; then the model runs over them.

import { RefusedRequest } from "../api.js";
import { t } from "../language.js";
import { announce, changed, state } from "../state.js";
import { byFileName, problemOf, refresh, showProblem } from "./loading.js";
import { newKey, post, uploadImage } from "./rest.js";
import { forgetRunOptions, runOptions } from "./run_dialog.js";
import { store } from "./state.js";

export const MAX_PHOTOS = 200; // of one selection
const MAX_CONCURRENT = 3;
const MAX_TRIES = 5; // of a server that is busy
const BUSY = new Set(["queue-full", "memory-full", "not-ready", "draining"]);
const IMAGES_PER_RUN = 4; // so that the page can show how far a run is

/** @type {Upload[]} */
let uploads = [];
let counter = 0;

export const allUploads = () => uploads;
/** @param {string} inspectionId */
export const uploadsOf = (inspectionId) => uploads.filter((u) => u.inspectionId === inspectionId);
/** @param {Upload} upload */
export const isUploading = (upload) => upload.status === "waiting" || upload.status === "sending";

/** @param {string} name of a file @param {string[]} views */
function viewOfName(name, views) {
  const plain = (/** @type {string} */ text) => text.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, " ").trim();
  const stem = plain(name.replace(/\.[^.]*$/, ""));
  return views.find((view) => stem === plain(view) || stem.startsWith(`${plain(view)} `) || stem.endsWith(` ${plain(view)}`)) ?? "";
}

/** @param {File[]} files */
export function addPhotos(files) {
  const open = store.current;
  if (!open) return;
  const taken = files.slice(0, MAX_PHOTOS);
  if (files.length > taken.length) showProblem(new RefusedRequest({ code: "too-many-photos", title: t("upload.tooMany"), detail: t("upload.tooManyDetail", { max: MAX_PHOTOS, n: files.length }) }));
  for (const file of taken) {
    counter += 1;
    uploads.push({
      id: `u${counter}`, key: newKey(), inspectionId: open.inspection.id, file, name: file.name || `photo-${counter}.png`,
      view: viewOfName(file.name, open.inspection.required_views), status: "waiting", sent: 0, problem: null, abort: null, tries: 0,
    });
  }
  changed();
  startNext();
}

function startNext() {
  const active = uploads.filter((u) => u.status === "sending").length;
  for (const upload of uploads.filter((u) => u.status === "waiting").slice(0, MAX_CONCURRENT - active)) send(upload);
}

/** @param {Upload} upload */
async function send(upload) {
  upload.status = "sending";
  upload.tries += 1;
  const request = uploadImage(upload.inspectionId, upload.file, { view: upload.view, key: upload.key, onSent: (share) => { upload.sent = share; changed(); } });
  upload.abort = request.abort;
  changed();
  try {
    const image = await request.promise;
    if (image === null) return;
    uploads = uploads.filter((u) => u !== upload);
    const open = store.current;
    if (open?.inspection.id === upload.inspectionId && !open.images.some((i) => i.id === image.id)) {
      open.images.push(image);
      open.inspection.summary.not_inspected.push(image.id);
      open.images.sort(byFileName);
      open.imageId ??= image.id;
    }
  } catch (error) {
    const problem = problemOf(error);
    if (BUSY.has(problem.code) && upload.tries < MAX_TRIES) {
      const seconds = (error instanceof RefusedRequest && error.retryAfter) || 2;
      await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
      upload.status = "waiting";
    } else {
      upload.status = "failed";
      upload.problem = problem;
    }
  }
  changed();
  startNext();
  if (!uploadsOf(upload.inspectionId).some(isUploading)) await finish(upload.inspectionId);
}

/** @param {string} inspectionId */
async function finish(inspectionId) {
  if (store.current?.inspection.id !== inspectionId) return;
  await refresh();
  const failed = uploadsOf(inspectionId).length;
  announce(failed ? t("upload.doneFailed", { n: failed }) : t("upload.done"));
  if (state.models.length && store.current?.inspection.summary.not_inspected.length) await runModel();
}

/** @param {Upload} upload */
export function retryUpload(upload) {
  Object.assign(upload, { status: "waiting", sent: 0, problem: null, tries: 0 });
  changed();
  startNext();
}

/** @param {Upload} upload */
export function dropUpload(upload) {
  upload.abort?.();
  uploads = uploads.filter((u) => u !== upload);
  changed();
  startNext();
}

/** Run the selected model over the images that it has not seen, a few at a time. */
export async function runModel() {
  const open = store.current;
  if (!open || open.run) return;
  const options = await runOptions();
  if (!options || store.current !== open) return;
  const id = open.inspection.id;
  const total = open.inspection.summary.not_inspected.length || open.images.length;
  open.run = { done: 0, total, model: state.model ?? "" };
  changed();
  try {
    if (options.cells) {
      const run = await post(`/inspections/${id}/module-runs`, { model: state.model, grid: options.grid, normal_labels: options.normal });
      const names = new Map(open.images.map((image) => [image.id, image.file_name]));
      if (run.left_out.length) showProblem(new RefusedRequest({ code: "module-left-out", title: t("module.leftOut", { n: run.left_out.length }), detail: run.left_out.map((/** @type {any} */ one) => `${names.get(one.image_id)}: ${one.detail}`).join(" ") }));
    }
    for (let more = !options.cells; more && open.run.done < total;) {
      const run = await post(`/inspections/${id}/runs`, { model: state.model, max_images: IMAGES_PER_RUN, normal_labels: options.normal });
      open.run.done += run.images.length;
      more = run.images.length === IMAGES_PER_RUN;
      if (store.current === open) await refresh();
    }
  } catch (error) {
    // Nothing is left if the last run had exactly the maximum of images.
    if (problemOf(error).code !== "bad-input.nothing-to-inspect" || !open.run.done) {
      forgetRunOptions(open.inspection.asset.kind);
      showProblem(error);
    }
  }
  if (store.current === open) {
    await refresh();
    const first = open.findings.find((f) => f.state === "open");
    if (!open.findingId && !open.edit && first) Object.assign(open, { findingId: first.id, imageId: first.image_id });
    announce(t("run.done", { n: open.inspection.summary.open_findings }));
  }
  open.run = null;
  changed();
}
