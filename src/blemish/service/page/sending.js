// Photographs on their way: a few at a time, each with its progress, and nothing lost when one fails.

import { Refused, picture, predict } from "./api.js";
import { changed, photograph, say, state } from "./store.js";
import { forget } from "./viewer.js";
import { count, STAGES, verdict } from "./words.js";

const AT_ONCE = 3;
const MOST_TRIES = 5; // of a server that says it is busy and when to come back
const BUSY = new Set(["queue_full", "memory_full", "not_ready"]);
let onKeyNeeded = () => {};
export const onKey = (ask) => (onKeyNeeded = ask);

export function add(files) {
  const added = [...files].map(photograph);
  state.photographs.push(...added);
  if (!state.selected && added.length) state.selected = added[0].id;
  changed();
  next();
}

export function retry(item) {
  if (item.status !== "failed" && item.status !== "cancelled") return;
  Object.assign(item, { status: "waiting", problem: null, sent: 0, stage: null, tries: 0, retryIn: null });
  changed();
  next();
}

export function retryAll() {
  state.photographs.filter((p) => p.status === "failed" || p.status === "cancelled").forEach(retry);
}

// Those that only wanted a key, now that there is one.
export function retryKeyless() {
  state.photographs.filter((p) => p.status === "failed" && p.problem.code.startsWith("key_")).forEach(retry);
}

// Whether there was something to stop. The next one does not begin yet.
function stop(item) {
  if (!["waiting", "sending", "working"].includes(item.status)) return false;
  item.abort?.();
  clearTimeout(item.timer);
  Object.assign(item, { status: "cancelled", abort: null, retryIn: null });
  return true;
}

export function cancel(item) {
  if (!stop(item)) return;
  changed();
  next();
}

export function remove(item) {
  cancel(item);
  dropMap(item);
  const place = state.photographs.indexOf(item);
  state.photographs.splice(place, 1);
  for (const url of [item.url, item.shown]) if (url) URL.revokeObjectURL(url);
  forget(item);
  if (state.selected === item.id) {
    state.selected = state.photographs[Math.min(place, state.photographs.length - 1)]?.id ?? null;
    state.finding = null;
  }
  changed();
}

export function removeAll() {
  for (const item of state.photographs) stop(item); // all of them first: a free place is given to the next one
  for (const item of [...state.photographs]) remove(item);
}

export function dropMap(item) {
  item.mapAttempt?.abort();
  if (item.map?.url) URL.revokeObjectURL(item.map.url);
  Object.assign(item, { map: null, mapBusy: null, mapProblem: null, mapAttempt: null });
}

// Ask the chosen model about every photograph again.
export function again() {
  for (const item of state.photographs) {
    stop(item);
    dropMap(item);
    Object.assign(item, { status: "waiting", problem: null, mapLabel: null, result: null, sent: 0, stage: null, tries: 0, retryIn: null });
  }
  changed();
  next();
}

function next() {
  const busy = state.photographs.filter((p) => p.status === "sending" || p.status === "working").length;
  for (const item of state.photographs.filter((p) => p.status === "waiting" && !p.retryIn).slice(0, AT_ONCE - busy)) send(item);
}

async function send(item) {
  item.status = "sending";
  item.sent = 0;
  item.tries += 1;
  const parameters = state.model ? { model: state.model } : {};
  const attempt = predict(item.file, item.name, parameters, {
    sent: (share) => {
      item.sent = share;
      if (share === 1 && item.status === "sending") item.status = "working";
      changed();
    },
    stage: (line) => {
      item.status = "working";
      item.stage = line.stage;
      item.ahead = line.ahead ?? null;
      changed();
    },
  });
  item.abort = attempt.abort;
  changed();
  try {
    const result = await attempt.promise;
    if (result === null || item.abort !== attempt.abort) return; // cancelled, or sent anew meanwhile
    Object.assign(item, { status: "done", result, when: new Date(), abort: null });
    if (state.selected === item.id && !state.tabChosen) state.tab = result.objects ? "where" : "verdict";
    if (state.selected === item.id) say(`${item.name}: ${verdict(result)}`);
    keepPicture(item, result);
  } catch (refused) {
    if (item.abort !== attempt.abort) return;
    fail(item, refused);
  }
  changed();
  next();
  sayWhenThrough();
}

function sayWhenThrough() {
  const all = state.photographs;
  if (all.length < 2 || all.some((p) => ["waiting", "sending", "working"].includes(p.status))) return;
  const failed = all.filter((p) => p.status === "failed").length;
  say(`${count(all.length - failed, "photograph")} done${failed ? `, ${failed} failed` : ""}.`);
}

function fail(item, refused) {
  const problem = refused instanceof Refused ? refused.problem : { code: "page", title: "The page failed", detail: String(refused) };
  item.abort = null;
  if (BUSY.has(problem.code) && item.tries < MOST_TRIES) {
    item.status = "waiting";
    countDown(item, Math.max(1, refused.retryAfter || 2));
    return;
  }
  item.status = "failed";
  item.problem = problem;
  say(`${item.name}: ${problem.title}. ${problem.detail}`);
  if (problem.code === "key_missing" || problem.code === "key_unknown") onKeyNeeded(problem);
}

function countDown(item, seconds) {
  item.retryIn = seconds;
  item.timer = setTimeout(() => {
    if (item.status !== "waiting") return;
    if (seconds > 1) countDown(item, seconds - 1);
    else item.retryIn = null;
    changed();
    next();
  }, 1000);
}

// The links of an answer expire, so the upright photograph is fetched at once and kept by the page.
async function keepPicture(item, result) {
  if (!result.links) return;
  try {
    const url = await picture(result.links.photograph);
    if (item.shown || !state.photographs.includes(item)) {
      URL.revokeObjectURL(url); // asked twice, or removed meanwhile: the same upright photograph
      return;
    }
    item.shown = url;
    changed();
  } catch {
    // the browser's own view of the file stays
  }
}

// A newer wish, another model or removal makes an older answer worthless: only `mapAttempt` may write.
export async function explain(item, label, { quiet = false } = {}) {
  dropMap(item);
  const parameters = { model: item.result.model, explain: "map" };
  if (label) parameters.label = label;
  const attempt = predict(item.file, item.name, parameters, {
    sent: (share) => tell(share < 1 ? `Sending, ${Math.round(100 * share)} %` : "Sent"),
    stage: (line) => tell(STAGES[line.stage] ?? line.stage),
  });
  const counts = () => item.mapAttempt === attempt;
  const tell = (words) => {
    if (!counts()) return;
    item.mapBusy = words;
    changed();
  };
  item.mapAttempt = attempt;
  tell("Asking the server");
  try {
    const result = await attempt.promise;
    const url = result?.map?.map ? await picture(result.map.map) : null;
    if (!counts()) {
      if (url) URL.revokeObjectURL(url);
      return;
    }
    if (url) item.map = { ...result.map, url };
    else item.mapProblem = result?.map_unavailable ?? "The server was started without pictures in its answers, so there is no map to show.";
  } catch (refused) {
    if (!counts()) return;
    item.mapProblem = refused.message;
  }
  item.mapBusy = null;
  if (!quiet) say(item.mapProblem ?? `The map of ${item.name} is there.`);
  changed();
}
