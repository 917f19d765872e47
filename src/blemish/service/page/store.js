// What the page knows. One object; whoever changes it calls `changed`, and everything is drawn from it.

export const state = {
  models: [], // as GET /api/v1/models gives them
  model: null, // the chosen model's name
  limits: null,
  photographs: [], // see `photograph` below
  selected: null, // the id of a photograph
  finding: null, // the id of a finding in it
  tab: "verdict",
  tabChosen: false, // whether by a person: then no answer changes it
  allLabels: false, // whether a long list of labels stands there in full
  threshold: null, // null: the model's own, label by label
  map: { opacity: 0.6, from: 0.3, beside: true },
  notice: null, // { text, act, does, calm }: what concerns the whole page, and a button for it
};

const listeners = new Set();
let scheduled = false;

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

// One photograph on its way. status: waiting, sending, working, done, failed, cancelled.
export function photograph(file) {
  counter += 1;
  return {
    id: `p${counter}`,
    name: file.name || `pasted-${counter}.png`,
    file,
    url: URL.createObjectURL(file), // what the browser can show before the server answered
    shown: null, // object URL of the upright photograph that the server sent back
    status: "waiting",
    sent: 0,
    stage: null,
    ahead: null,
    result: null,
    when: null,
    problem: null,
    abort: null,
    tries: 0,
    map: null, // { label, title, method, model, empty, url }
    mapLabel: null, // which label a person wants explained
    mapBusy: null,
    mapProblem: null,
    mapAttempt: null, // { abort } of the one that counts
  };
}

export const current = () => state.photographs.find((p) => p.id === state.selected) ?? null;
export const modelInfo = (name) => state.models.find((m) => m.name === name) ?? null;

// For those who hear the page: what has come to an end, and not each step on the way.
export function say(text) {
  document.getElementById("announce").textContent = text;
}

export function notify(text, act = null, does = null, { calm = false } = {}) {
  state.notice = text ? { text, act, does, calm } : null;
  changed();
}
