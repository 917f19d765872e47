// Photos on their way to the server: a few at a time, each with its progress; a failure of one does not stop the rest.

import { getImage, predict, RefusedRequest } from "./api.js";
import { announce, changed, createPhoto, state } from "./state.js";
import { t } from "./language.js";
import { stageText, summarize } from "./text.js";
import { forgetPhoto } from "./viewer.js";

const MAX_CONCURRENT = 3;
const MAX_TRIES = 5; // of a server that is busy and gives a time to retry
const BUSY = new Set(["queue-full", "memory-full", "not-ready"]);
const KEY_CODES = new Set(["api-key-missing", "api-key-unknown"]);
/** @type {(problem: PageProblem) => void} */
let onKeyRequired = () => {};
/** @param {(problem: PageProblem) => void} callback */
export const whenKeyRequired = (callback) => { onKeyRequired = callback; };

/** @param {PageProblem | null | undefined} problem */
export const isKeyProblem = (problem) => KEY_CODES.has(problem?.code ?? "");

/** @param {Photo} photo */
export const isBusy = (photo) => ["waiting", "sending", "working"].includes(photo.status);
/** @param {Photo} photo */
export const hasFailed = (photo) => photo.status === "failed" || photo.status === "cancelled";

const RESET = { status: /** @type {const} */ ("waiting"), problem: null, sent: 0, stage: null, tries: 0, retryIn: null };

/** @param {Iterable<File>} files */
export function addFiles(files) {
  const added = [...files].map(createPhoto);
  state.photos.push(...added);
  if (!state.selected && added.length) state.selected = added[0].id;
  changed();
  sendNext();
}

/** @param {Photo} photo */
export function retry(photo) {
  if (!hasFailed(photo)) return;
  Object.assign(photo, RESET);
  changed();
  sendNext();
}

export function retryAll() {
  state.photos.filter(hasFailed).forEach(retry);
}

/** Retry the photos that were refused only because of the API key. */
export function retryAfterKey() {
  state.photos.filter((p) => p.status === "failed" && isKeyProblem(p.problem)).forEach(retry);
}

/**
 * Stop a photo, and return whether it was waiting or being processed. The next one does not start yet.
 * @param {Photo} photo
 */
function stop(photo) {
  if (!isBusy(photo)) return false;
  photo.abort?.();
  clearTimeout(photo.retryTimer);
  Object.assign(photo, { status: "cancelled", abort: null, retryIn: null });
  return true;
}

/** @param {Photo} photo */
export function cancel(photo) {
  if (!stop(photo)) return;
  changed();
  sendNext();
}

/** @param {Photo} photo */
export function remove(photo) {
  cancel(photo);
  dropHeatmap(photo);
  const position = state.photos.indexOf(photo);
  state.photos.splice(position, 1);
  for (const url of [photo.fileUrl, photo.serverUrl]) if (url) URL.revokeObjectURL(url);
  forgetPhoto(photo);
  if (state.selected === photo.id) {
    state.selected = state.photos[Math.min(position, state.photos.length - 1)]?.id ?? null;
    state.finding = null;
  }
  changed();
}

export function removeAll() {
  for (const photo of state.photos) stop(photo); // all of them first: otherwise the next one would start
  for (const photo of [...state.photos]) remove(photo);
}

/** @param {Photo} photo */
export function dropHeatmap(photo) {
  photo.heatmapRequest?.abort();
  if (photo.heatmap?.url) URL.revokeObjectURL(photo.heatmap.url);
  Object.assign(photo, { heatmap: null, heatmapStage: null, heatmapProblem: null, heatmapRequest: null });
}

/** Send every photo to the selected model again. */
export function sendAllAgain() {
  for (const photo of state.photos) {
    stop(photo);
    dropHeatmap(photo);
    Object.assign(photo, RESET, { heatmapLabel: null, result: null });
  }
  changed();
  sendNext();
}

function sendNext() {
  const active = state.photos.filter((p) => p.status === "sending" || p.status === "working").length;
  const ready = state.photos.filter((p) => p.status === "waiting" && !p.retryIn);
  for (const photo of ready.slice(0, MAX_CONCURRENT - active)) send(photo);
}

/** @param {Photo} photo */
async function send(photo) {
  photo.status = "sending";
  photo.sent = 0;
  photo.tries += 1;
  /** @type {Record<string, string>} */
  const parameters = state.model ? { model: state.model } : {};
  const request = predict(photo.file, photo.name, parameters, {
    onSent: (share) => {
      photo.sent = share;
      if (share === 1 && photo.status === "sending") photo.status = "working";
      changed();
    },
    onStage: (line) => {
      photo.status = "working";
      photo.stage = line.stage;
      photo.queuePosition = line.queue_position ?? null;
      changed();
    },
  });
  photo.abort = request.abort;
  changed();
  try {
    const result = await request.promise;
    if (result === null || photo.abort !== request.abort) return; // canceled, or sent again since
    Object.assign(photo, { status: "done", result, resultTime: new Date(), abort: null });
    if (state.selected === photo.id && !state.tabChosen) state.tab = result.detections ? "detections" : "prediction";
    if (state.selected === photo.id) announce(`${photo.name}: ${summarize(result)}`);
    loadServerImage(photo, result);
  } catch (error) {
    if (photo.abort !== request.abort) return;
    fail(photo, error);
  }
  changed();
  sendNext();
  announceEnd();
}

function announceEnd() {
  const all = state.photos;
  if (all.length < 2 || all.some(isBusy)) return;
  const failed = all.filter((p) => p.status === "failed").length;
  announce(failed ? t("queue.endFailed", { n: all.length - failed, failed }) : t("queue.end", { n: all.length }));
}

/**
 * @param {Photo} photo
 * @param {unknown} error
 */
function fail(photo, error) {
  const refused = error instanceof RefusedRequest ? error : null;
  const problem = refused?.problem ?? { code: "page-failed", title: t("problem.page"), detail: String(error) };
  photo.abort = null;
  if (BUSY.has(problem.code) && photo.tries < MAX_TRIES) {
    photo.status = "waiting";
    countDown(photo, Math.max(1, refused?.retryAfter || 2));
    return;
  }
  photo.status = "failed";
  photo.problem = problem;
  announce(`${photo.name}: ${problem.title}. ${problem.detail}`);
  if (isKeyProblem(problem)) onKeyRequired(problem);
}

/**
 * @param {Photo} photo
 * @param {number} seconds
 */
function countDown(photo, seconds) {
  photo.retryIn = seconds;
  photo.retryTimer = setTimeout(() => {
    if (photo.status !== "waiting") return;
    if (seconds > 1) countDown(photo, seconds - 1);
    else photo.retryIn = null;
    changed();
    sendNext();
  }, 1000);
}

/**
 * Load the upright image that the server returned. Its link expires, so this happens at once.
 * @param {Photo} photo
 * @param {PredictionResponse} result
 */
async function loadServerImage(photo, result) {
  if (!result.links) return;
  try {
    const url = await getImage(result.links.image);
    if (photo.serverUrl || !state.photos.includes(photo)) {
      URL.revokeObjectURL(url); // loaded twice, or the photo has been removed
      return;
    }
    photo.serverUrl = url;
    changed();
  } catch {
    // the browser's own view of the file stays
  }
}

/**
 * Ask the server for the heatmap of a photo. A newer request, another model or the removal of the photo makes the
 * answer obsolete: only `heatmapRequest` may store its heatmap.
 * @param {Photo} photo
 * @param {string | null} [label]
 * @param {{ quiet?: boolean }} [options]
 */
export async function requestHeatmap(photo, label, { quiet = false } = {}) {
  if (!photo.result) return;
  dropHeatmap(photo);
  /** @type {Record<string, string>} */
  const parameters = { model: photo.result.model, explain: "heatmap" };
  if (label) parameters.label = label;
  const isCurrent = () => photo.heatmapRequest === request;
  /** @param {string} text */
  const setStage = (text) => {
    if (!isCurrent()) return;
    photo.heatmapStage = text;
    changed();
  };
  const request = predict(photo.file, photo.name, parameters, {
    onSent: (share) => setStage(share < 1 ? t("status.sending", { share: `${Math.round(100 * share)}%` }) : t("status.sent")),
    onStage: (line) => setStage(stageText(line.stage)),
  });
  photo.heatmapRequest = request;
  setStage(t("upload.sending"));
  try {
    const result = await request.promise;
    const heatmap = result?.heatmap;
    const url = heatmap?.grayscale ? await getImage(heatmap.grayscale) : null;
    if (!isCurrent()) {
      if (url) URL.revokeObjectURL(url);
      return;
    }
    if (heatmap && url) photo.heatmap = { ...heatmap, url };
    else photo.heatmapProblem = result?.heatmap_unavailable ?? t("heatmap.noImages");
  } catch (error) {
    if (!isCurrent()) return;
    photo.heatmapProblem = error instanceof Error ? error.message : String(error);
  }
  photo.heatmapStage = null;
  if (!quiet) announce(photo.heatmapProblem ?? t("heatmap.ready", { name: photo.name }));
  changed();
}
