// Answers as text, and which detections and labels are positive at the current threshold.

import { findModel, state } from "./state.js";

export const REVIEW_MARGIN = 0.1; // a score this close to its threshold needs review by a person

/** @param {number} score */
export const percent = (score) => `${(100 * score).toFixed(score > 0.995 && score < 1 ? 2 : 1)}%`;
/** @param {number} value */
export const wholePercent = (value) => `${Math.round(100 * value)}%`;
/** @param {number} value */
export const areaPercent = (value) => (value < 0.005 ? "< 0.01%" : `${value.toFixed(value < 1 ? 2 : 1)}%`);
/** @param {Date | null} date */
export const dateTime = (date) => date?.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" }) ?? "";
/** @param {number} n @param {string} one */
export const count = (n, one, many = `${one}s`) => `${n} ${n === 1 ? one : many}`;
/** @param {{ display_name: string | null }} detection */
export const displayName = (detection) => detection.display_name ?? "finding";

/**
 * "Glass Crack" becomes "glass crack" inside a sentence; "LED" and "C3" stay.
 * @param {string} text
 */
const lower = (text) => text.replace(/(?<![\p{L}\p{N}])\p{Lu}(?=\p{Ll})/gu, (c) => c.toLowerCase());
/** @param {string} text */
const upper = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** @type {Record<string, string>} */
const IRREGULAR = { glass: "glasses", lens: "lenses", tyre: "tyres", tire: "tires" };

/** @param {string} name */
function plural(name) {
  const words = name.split(" ");
  const last = words[words.length - 1];
  const lastLower = last.toLowerCase();
  if (/(shatter|shattered|missing|broken|flat)$/.test(lastLower)) return name; // adjectives stay as they are
  words[words.length - 1] = IRREGULAR[lastLower] ??
    (/(s|x|z|ch|sh)$/.test(lastLower) ? `${last}es` : /[^aeiou]y$/.test(lastLower) ? `${last.slice(0, -1)}ies` : `${last}s`);
  return words.join(" ");
}

/** @param {string[]} parts */
export function list(parts) {
  return parts.length < 2 ? (parts[0] ?? "") : `${parts.slice(0, -1).join(", ")} and ${parts[parts.length - 1]}`;
}

/**
 * Return the score from which a label is positive: the slider's, else the model's.
 * @param {PredictionResponse} result
 * @param {string | null} label
 */
export function thresholdOf(result, label) {
  if (state.threshold !== null) return state.threshold;
  return result.labels.find((l) => l.label === label)?.threshold ?? 0.5;
}

/**
 * Return the positive detections, best first; [] for models without boxes.
 * @param {PredictionResponse} result
 * @returns {Detection[]}
 */
export function findings(result) {
  if (result.task === "localization") return result.detections ?? []; // one box, whatever its score
  return (result.detections ?? []).filter((d) => d.score >= thresholdOf(result, d.label));
}

/**
 * Return the detections slightly below their threshold: not counted, but shown, because a person has to review them.
 * @param {PredictionResponse} result
 * @returns {Detection[]}
 */
export function nearMisses(result) {
  return (result.detections ?? []).filter((d) => d.score < thresholdOf(result, d.label) && needsReview(result, d));
}

/**
 * Return whether a person has to look: the score is close to its threshold, or the label is not reliable.
 * @param {PredictionResponse} result
 * @param {{ label: string | null, score: number, reliable: boolean }} item a label or a detection
 */
export function needsReview(result, item) {
  if (result.task === "localization") return false;
  const distance = item.score - thresholdOf(result, item.label);
  return Math.abs(distance) < REVIEW_MARGIN || (!item.reliable && distance >= 0);
}

/**
 * @param {PredictionResponse} result
 * @param {LabelScore} item
 */
export function isPositive(result, item) {
  if (result.task === "classification") return result.labels.every((other) => other.score <= item.score);
  return item.score >= thresholdOf(result, item.label);
}

/** @param {PredictionResponse} result */
const byScore = (result) => [...result.labels].sort((a, b) => b.score - a.score);

/**
 * Return the labels or detections that need review: those close to their threshold, on either side.
 * @param {PredictionResponse} result
 * @returns {(LabelScore | Detection)[]}
 */
export function reviewItems(result) {
  if (result.familiarity?.unfamiliar && !result.risk_decision) return [...result.labels, ...(result.detections ?? [])].slice(0, 1);
  if (result.risk_decision) {
    if (result.risk_decision.outcome !== "review") return [];
    const items = result.detections ?? result.labels.filter((l) => result.risk_decision?.possible_labels.includes(l.label));
    return items.length ? [items[0]] : [...result.labels, ...(result.detections ?? [])].slice(0, 1);
  }
  if (result.task === "classification") {
    const [first, second] = byScore(result);
    const uncertain = second ? first.score - second.score < 2 * REVIEW_MARGIN : false;
    return uncertain || (state.threshold !== null && first.score < state.threshold) ? [first] : [];
  }
  return (result.detections ?? result.labels).filter((item) => needsReview(result, item));
}

/**
 * Return why a photo should be taken again, in one line; "" if it need not be.
 * @param {PredictionResponse | null} result
 */
export function retakeText(result) {
  const reasons = result?.capture?.reasons ?? [];
  return reasons.length ? `Retake: ${reasons.map((reason) => reason.code.replace("-", " ")).join(", ")}` : "";
}

/**
 * Return a decision at a risk in one line.
 * @param {PredictionResponse} result
 * @param {RiskDecision} decision
 */
export function decisionText(result, decision) {
  if (decision.outcome === "review") return `Review: ${decision.reason}`;
  const names = decision.labels.map((name) => result.labels.find((l) => l.label === name)?.display_name ?? name);
  return names.length ? upper(list(names)) : "No damage";
}

/**
 * Return what a decision at a risk rests on, in one sentence.
 * @param {RiskDecision} decision
 */
export function decisionNote(decision) {
  const rule = decision.risk === null ? "by expected cost" : `at a risk of ${percent(decision.risk)}`;
  return decision.outcome === "review" ? `The model does not decide this photo ${rule}. A person has to look.` : `Decided by the model ${rule}.`;
}

/**
 * Return the result in one line.
 * @param {PredictionResponse} result
 */
export function summarize(result) {
  if (result.risk_decision) return decisionText(result, result.risk_decision);
  if (result.familiarity?.unfamiliar) return `Unfamiliar photo. ${summarizeScores(result)}`;
  return summarizeScores(result);
}

/** @param {PredictionResponse} result */
function summarizeScores(result) {
  const number = reviewItems(result).length;
  const review = number ? `; ${number} ${number === 1 ? "needs" : "need"} review` : "";
  if (result.task === "classification") {
    const best = byScore(result)[0];
    return `${best.display_name}, ${percent(best.score)} confidence${number ? "; needs review" : ""}`;
  }
  if (!result.detections) {
    const names = result.labels.filter((l) => isPositive(result, l)).map((l) => l.display_name);
    return (names.length ? list(names.map((n, i) => (i ? lower(n) : upper(n)))) : "Nothing found") + review;
  }
  if (result.task === "localization") {
    const box = result.detections?.[0];
    return box ? `${upper(displayName(box))}: ${box.area_percent.toFixed(1)}% of the photo` : "Nothing found";
  }
  /** @type {Map<string, number>} */
  const counts = new Map();
  for (const finding of findings(result)) counts.set(displayName(finding), (counts.get(displayName(finding)) ?? 0) + 1);
  if (!counts.size) return `Nothing found${review}`;
  const parts = [...counts].sort((a, b) => b[1] - a[1]).map(([name, n]) => `${n} ${n === 1 ? lower(name) : plural(lower(name))}`);
  return list(parts) + review;
}

const MAX_NAMED = 8;

/**
 * Return what a model checks a photo for, as one sentence.
 * @param {string} modelName
 */
export function checkedFor(modelName) {
  const model = findModel(modelName);
  if (!model) return "";
  if (model.task === "localization") return "Checked for one place only.";
  const names = model.labels.map((l) => lower(l.display_name));
  const shown = names.length > MAX_NAMED ? [...names.slice(0, MAX_NAMED), `${names.length - MAX_NAMED} more`] : names;
  return `Checked only for ${list(shown)}.`;
}

/**
 * Return the caption of a heatmap.
 * @param {PageHeatmap} heatmap
 */
export function heatmapCaption(heatmap) {
  const label = `“${heatmap.display_name ?? "the place"}”`;
  const source = `${heatmap.model}, ${heatmap.method}`;
  if (heatmap.empty) return `No area of this photo raises the score of ${label} (${source})`;
  const doubt = heatmap.is_faithful === false ? ". The score depends on the highlighted areas no more than on others, so this heatmap does not explain it" : "";
  return `Influence on ${label} (${source})${doubt}`;
}

export const HEATMAP_NOTE = "A heatmap shows which areas influenced the score, not the outline of the damage.";

/**
 * Return the result of the model check: whether the model file was verified against the trained network.
 * @param {ModelDescription | null} model
 */
export function modelCheck(model) {
  const certificate = model?.certificate;
  if (!certificate) return "not available";
  return certificate.passed ? `passed on ${count(certificate.images, "image")}` : "failed";
}

/** @type {Record<string, string>} */
export const STAGES = { decoding: "Opening", queued: "Queued", inferring: "Analyzing", explaining: "Computing the heatmap" };

/** @param {Photo} photo */
export function statusText(photo) {
  if (photo.status === "waiting") return photo.retryIn ? `Server busy, retry in ${photo.retryIn} s` : "Waiting";
  if (photo.status === "sending") return `Sending, ${Math.round(100 * photo.sent)}%`;
  if (photo.status === "working") {
    const ahead = photo.stage === "queued" && photo.queuePosition ? `, ${photo.queuePosition} ahead` : "";
    return (STAGES[photo.stage ?? ""] ?? "Sent") + ahead;
  }
  if (photo.status === "cancelled") return "Canceled";
  if (photo.status === "failed") return photo.problem?.title ?? "";
  return photo.result ? summarize(photo.result) : "";
}

/** @param {Limits | null} limits */
export function limitsText(limits) {
  if (!limits) return "";
  const bytes = limits.max_upload_bytes;
  const size = bytes < 2 ** 20 ? `${Math.floor(bytes / 2 ** 10)} kB` : `${Math.floor(bytes / 2 ** 20)} MB`;
  return `${limits.formats.join(", ")}; up to ${size} and ${Number((limits.max_pixels / 1e6).toPrecision(2))} megapixels each. ` +
    (limits.retention_hours === null ? "Nothing is stored on the server." : `Photos are stored on the server for ${count(limits.retention_hours, "hour")}.`);
}
