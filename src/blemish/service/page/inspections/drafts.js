// Unsaved work that survives a reload: the edit in progress, and decisions that the server has not confirmed.

import { storedText } from "../browser_storage.js";

/** @param {string} inspectionId */
const draftText = (inspectionId) => storedText("localStorage", `blemish-draft-${inspectionId}`);
const outboxText = storedText("localStorage", "blemish-decisions");

/**
 * @param {string | null} text
 * @returns {any}
 */
function parse(text) {
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    return null; // another version of the page wrote it
  }
}

/**
 * @param {string} inspectionId
 * @returns {Edit | null}
 */
export const readDraft = (inspectionId) => parse(draftText(inspectionId).get());

/**
 * @param {string} inspectionId
 * @param {Edit | null} edit null forgets it
 */
export const writeDraft = (inspectionId, edit) => draftText(inspectionId).set(edit && JSON.stringify(edit));

/** @returns {PendingDecision[]} */
export const readOutbox = () => parse(outboxText.get()) ?? [];

/**
 * Change the stored decisions. They are read again first, because another tab may have changed them.
 * @param {(decisions: PendingDecision[]) => PendingDecision[]} change
 */
export function changeOutbox(change) {
  const decisions = change(readOutbox());
  outboxText.set(decisions.length ? JSON.stringify(decisions) : null);
}

export const reviewerName = storedText("localStorage", "blemish-reviewer");
