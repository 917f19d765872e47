// The state of the page: one object. Code that changes it calls `changed`, and the whole page is drawn from it.

/** @type {PageState} */
export const state = {
  models: [],
  model: null,
  limits: null,
  photos: [],
  selected: null,
  finding: null,
  tab: "prediction",
  tabChosen: false,
  allLabels: false,
  threshold: null,
  heatmap: { opacity: 0.6, minimum: 0.3, sideBySide: true },
  notice: null,
};

/** @type {Set<(state: PageState) => void>} */
const listeners = new Set();
let scheduled = false;

/** @param {(state: PageState) => void} listener */
export const onChange = (listener) => listeners.add(listener);

export function changed() {
  if (scheduled) return;
  scheduled = true;
  queueMicrotask(() => {
    scheduled = false;
    for (const listener of listeners) listener(state);
  });
}

let counter = 0;

/**
 * Return a new photo that waits for its upload.
 * @param {File} file
 * @returns {Photo}
 */
export function createPhoto(file) {
  counter += 1;
  return {
    id: `p${counter}`,
    name: file.name || `pasted-${counter}.png`,
    file,
    fileUrl: URL.createObjectURL(file),
    serverUrl: null,
    status: "waiting",
    sent: 0,
    stage: null,
    queuePosition: null,
    result: null,
    resultTime: null,
    problem: null,
    abort: null,
    tries: 0,
    retryIn: null,
    retryTimer: undefined,
    heatmap: null,
    heatmapLabel: null,
    heatmapStage: null,
    heatmapProblem: null,
    heatmapRequest: null,
  };
}

/**
 * Return the URL of the best available image of a photo: the server's upright copy, else the file itself.
 * @param {Photo} photo
 */
export const imageUrl = (photo) => photo.serverUrl ?? photo.fileUrl;

/** @returns {Photo | null} */
export const currentPhoto = () => state.photos.find((p) => p.id === state.selected) ?? null;

/**
 * @param {string | null} name
 * @returns {ModelDescription | null}
 */
export const findModel = (name) => state.models.find((m) => m.name === name) ?? null;

/**
 * Announce a result to screen readers; the steps on the way to it are not announced.
 * @param {string} text
 */
export function announce(text) {
  const element = document.getElementById("announcement");
  if (element) element.textContent = text;
}

/**
 * Show a message that concerns the whole page, perhaps with a button.
 * @param {string | null} text null hides the message
 * @param {string | null} buttonText
 * @param {(() => void) | null} onButton
 * @param {{ info?: boolean }} options `info`: the message is not an error
 */
export function notify(text, buttonText = null, onButton = null, { info = false } = {}) {
  state.notice = text ? { text, buttonText, onButton, info } : null;
  changed();
}
