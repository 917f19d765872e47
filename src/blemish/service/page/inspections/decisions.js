// Decisions on their way to the store, one after another. Each is kept in the browser until the server has confirmed
// it, and has a key, so that sending it again after a reload stores it once.

import { RefusedRequest } from "../api.js";
import { announce, changed } from "../state.js";
import { t, tValue } from "../language.js";
import { changeOutbox, readOutbox, reviewerName } from "./drafts.js";
import { problemOf, refreshFinding } from "./loading.js";
import { get, newKey, post } from "./rest.js";
import { effective, store } from "./state.js";

const RETRY_MS = 5000;
/** @type {PendingDecision[]} of this tab and, after a reload, of the one before it */
let decisions = [];
let isSending = false;
/** @type {Map<string, number>} the version that a confirmed decision of this tab made of another: "finding version" */
const madeVersions = new Map();
/** @type {((decision: PendingDecision, theirs: any) => Promise<boolean>)} */
let onConflict = async () => false;
/** @param {(decision: PendingDecision, theirs: any) => Promise<boolean>} callback gives whether to apply the decision anyway */
export const whenConflict = (callback) => { onConflict = callback; };
/** @type {(() => Promise<string | null>)} */
let askName = async () => null;
/** @param {() => Promise<string | null>} callback */
export const whenNameNeeded = (callback) => { askName = callback; };

/** Return the decisions that are not confirmed yet. */
export const unconfirmed = () => decisions;

/** @param {string} findingId */
export const isPending = (findingId) => decisions.some((d) => d.findingId === findingId);

/** Return who decides: the API key's name, or the name that was entered once; null if it was not given. */
export const reviewer = () => store.settings?.reviewer ?? reviewerName.get();

/** @returns {Promise<boolean>} whether there is a name */
async function ensureName() {
  if (store.settings?.reviewer || reviewerName.get()) return true;
  const name = await askName();
  if (!name) return false;
  reviewerName.set(name);
  return true;
}

/**
 * Return the version of a finding that a person of this tab has seen: that of the last answer, or a later one that
 * only decisions of this tab have made, which the page shows before it has read the finding again.
 * @param {StoredFinding} finding
 */
function seenVersion({ id, version }) {
  let seen = version;
  for (let next = madeVersions.get(`${id} ${seen}`); next; next = madeVersions.get(`${id} ${seen}`)) seen = next;
  return seen;
}

/** @param {any} body */
const signed = (body) => (store.settings?.reviewer ? body : { ...body, reviewer: reviewerName.get() });

/**
 * Decide about a finding. The table shows the decision at once.
 * @param {StoredFinding} finding
 * @param {{ action: string, changes?: Partial<FindingValues>, reason?: string, note?: string }} body
 * @returns {Promise<boolean>} false without a reviewer's name
 */
export async function decide(finding, body) {
  if (!(await ensureName())) return false;
  queue({
    key: newKey(),
    inspectionId: finding.inspection_id,
    findingId: finding.id,
    version: seenVersion(finding),
    path: `/findings/${finding.id}/reviews`,
    body: signed(body),
    problem: null,
  });
  return true;
}

/**
 * Add a person's finding.
 * @param {string} inspectionId
 * @param {any} body
 */
export async function add(inspectionId, body) {
  if (!(await ensureName())) return false;
  queue({ key: newKey(), inspectionId, findingId: null, version: null, path: `/inspections/${inspectionId}/findings`, body: signed(body), problem: null });
  return true;
}

/** @param {PendingDecision} decision */
function queue(decision) {
  decisions.push(decision);
  changeOutbox((all) => [...all, decision]);
  changed();
  sendNext();
}

/** @param {PendingDecision} decision */
function remove(decision) {
  decisions = decisions.filter((d) => d !== decision);
  changeOutbox((all) => all.filter((d) => d.key !== decision.key));
  changed();
}

/** Send what an earlier page could not. */
export function resume() {
  const known = new Set(decisions.map((d) => d.key));
  decisions.push(...readOutbox().filter((d) => !known.has(d.key)).map((d) => ({ ...d, problem: null })));
  changed();
  sendNext();
}

export function retryAll() {
  for (const decision of decisions) decision.problem = null;
  changed();
  sendNext();
}

export function discardFailed() {
  const failed = decisions.filter((d) => d.problem);
  failed.forEach(remove);
  for (const { findingId } of failed) if (findingId) refreshFinding(findingId).catch(() => {});
  changed();
}

async function sendNext() {
  if (isSending) return;
  const decision = decisions.find((d) => !d.problem);
  if (!decision) return;
  isSending = true;
  try {
    await sendOne(decision);
  } catch (error) {
    decision.problem = problemOf(error);
    if (decision.problem.code === "unreachable") setTimeout(retryAll, RETRY_MS);
    announce(decision.problem.title);
  }
  isSending = false;
  changed();
  sendNext();
}

/** @param {PendingDecision} decision */
async function sendOne(decision) {
  let answer;
  try {
    answer = await post(decision.path, decision.body, { version: decision.version, key: decision.key });
  } catch (error) {
    if (!(error instanceof RefusedRequest) || error.problem.code !== "conflict.version") throw error;
    const theirs = await get(`/findings/${decision.findingId}`);
    const isApplied = await onConflict(decision, theirs);
    if (isApplied) {
      decision.version = theirs.version;
      changeOutbox((all) => all.map((d) => (d.key === decision.key ? decision : d)));
      return;
    }
    remove(decision);
    await refreshFinding(decision.findingId);
    return;
  }
  if (decision.findingId && decision.version !== null) {
    const made = decision.version + 1;
    madeVersions.set(`${decision.findingId} ${decision.version}`, made);
    const later = new Set(decisions.filter((d) => d !== decision && d.findingId === decision.findingId && d.version === decision.version).map((d) => d.key));
    for (const one of decisions) if (later.has(one.key)) one.version = made;
    changeOutbox((all) => all.map((d) => (later.has(d.key) ? { ...d, version: made } : d)));
  }
  const isOpen = () => store.current?.inspection.id === decision.inspectionId;
  // Read before the decision is removed, so that the table never shows the finding as it was.
  if (isOpen()) await refreshFinding(decision.findingId ?? answer.id).catch(() => {}); // the decision is stored all the same
  remove(decision);
  const open = store.current;
  if (!decision.findingId && open && isOpen() && !open.edit) Object.assign(open, { findingId: answer.id, imageId: answer.image_id });
}

const AFTER = /** @type {Record<string, string>} */ ({ accept: "accepted", reject: "rejected", edit: "accepted", contest: "contested" });

/**
 * Return a finding as it will be when its unconfirmed decisions are stored.
 * @param {StoredFinding} finding
 * @returns {StoredFinding}
 */
export function withUnconfirmed(finding) {
  let shown = finding;
  for (const { findingId, body } of decisions) {
    if (findingId !== finding.id) continue;
    shown = { ...shown, state: AFTER[body.action] ?? shown.state };
    if (body.changes) shown.current = { ...effective(shown), ...body.changes };
  }
  return shown;
}

/** @param {PendingDecision} decision */
export const describe = (decision) => (decision.findingId ? tValue("action", decision.body.action) : t("action.add"));
