// Answers as text, and which detections and labels are positive at the current threshold.

import { language, number, t, tValue } from "./language.js";
import { findModel, state } from "./state.js";

export const REVIEW_MARGIN = 0.1; // a score this close to its threshold needs review by a person

/** @param {number} share @param {number} digits */
const percents = (share, digits) => number(share, { style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits });
/** @param {number} score */
export const percent = (score) => percents(score, score > 0.995 && score < 1 ? 2 : 1);
/** @param {number} value */
export const wholePercent = (value) => percents(value, 0);
/** @param {number} value */
export const areaPercent = (value) => (value < 0.005 ? `< ${percents(0.0001, 2)}` : percents(value / 100, value < 1 ? 2 : 1));
/** @param {{ display_name: string | null }} detection */
export const displayName = (detection) => detection.display_name ?? t("label.finding");

/**
 * "Glass Crack" becomes "glass crack" inside a sentence; "LED" and "C3" stay.
 * @param {string} text
 */
const lower = (text) => language() !== "en" ? text : text.replace(/(?<![\p{L}\p{N}])\p{Lu}(?=\p{Ll})/gu, (c) => c.toLowerCase());
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
export const list = (parts) => (parts.length < 2 ? (parts[0] ?? "") : t("list.and", { first: parts.slice(0, -1).join(", "), last: parts[parts.length - 1] }));

/**
 * Return a number of findings of one kind: "2 scratches". Other languages do not change the names of models.
 * @param {number} n
 * @param {string} name
 */
const counted = (n, name) => (language() === "en" ? `${n} ${n === 1 ? lower(name) : plural(lower(name))}` : `${n} × ${name}`);

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
  return reasons.length ? t("retake.short", { reasons: reasons.map((reason) => tValue("fault", reason.code)).join(", ") }) : "";
}

/**
 * Return a decision at a risk in one line.
 * @param {PredictionResponse} result
 * @param {RiskDecision} decision
 */
export function decisionText(result, decision) {
  if (decision.outcome === "review") return t("decision.review", { reason: decision.reason });
  const names = decision.labels.map((name) => result.labels.find((l) => l.label === name)?.display_name ?? name);
  return names.length ? upper(list(names)) : t("decision.noDamage");
}

/**
 * Return what a decision at a risk rests on, in one sentence.
 * @param {RiskDecision} decision
 */
export function decisionNote(decision) {
  const rule = decision.risk === null ? t("decision.byCost") : t("decision.byRisk", { risk: percent(decision.risk) });
  return t(decision.outcome === "review" ? "decision.noteReview" : "decision.note", { rule });
}

/**
 * Return the result in one line.
 * @param {PredictionResponse} result
 */
export function summarize(result) {
  if (result.risk_decision) return decisionText(result, result.risk_decision);
  if (result.familiarity?.unfamiliar) return t("summary.unfamiliar", { summary: summarizeScores(result) });
  return summarizeScores(result);
}

/** @param {PredictionResponse} result */
function summarizeScores(result) {
  const items = reviewItems(result).length;
  const review = items ? `; ${t("summary.review", { n: items })}` : "";
  if (result.task === "classification") {
    const best = byScore(result)[0];
    return t("summary.classification", { label: best.display_name, score: percent(best.score) }) + (items ? `; ${t("summary.needsReview")}` : "");
  }
  if (!result.detections) {
    const names = result.labels.filter((l) => isPositive(result, l)).map((l) => l.display_name);
    return (names.length ? list(names.map((n, i) => (i ? lower(n) : upper(n)))) : t("summary.nothing")) + review;
  }
  if (result.task === "localization") {
    const box = result.detections?.[0];
    return box ? t("summary.box", { label: upper(displayName(box)), area: percents(box.area_percent / 100, 1) }) : t("summary.nothing");
  }
  /** @type {Map<string, number>} */
  const counts = new Map();
  for (const finding of findings(result)) counts.set(displayName(finding), (counts.get(displayName(finding)) ?? 0) + 1);
  if (!counts.size) return t("summary.nothing") + review;
  return list([...counts].sort((a, b) => b[1] - a[1]).map(([name, n]) => counted(n, name))) + review;
}

const MAX_NAMED = 8;

/**
 * Return what a model checks a photo for, as one sentence.
 * @param {string} modelName
 */
export function checkedFor(modelName) {
  const model = findModel(modelName);
  if (!model) return "";
  if (model.task === "localization") return t("checked.place");
  const names = model.labels.map((l) => lower(l.display_name));
  const shown = names.length > MAX_NAMED ? [...names.slice(0, MAX_NAMED), t("checked.more", { n: names.length - MAX_NAMED })] : names;
  return t("checked.only", { labels: list(shown) });
}

/**
 * Return whether a heatmap is the output of a model of good images, where 0.5 is the threshold, instead of an
 * explanation of a score.
 * @param {PageHeatmap} heatmap
 */
export const showsDifferences = (heatmap) => heatmap.method === "model";

/**
 * Return the caption of a heatmap.
 * @param {PageHeatmap} heatmap
 */
export function heatmapCaption(heatmap) {
  const values = { label: heatmap.display_name ?? t("heatmap.place"), model: heatmap.model, method: heatmap.method };
  if (showsDifferences(heatmap)) return t(heatmap.empty ? "heatmap.usual" : "heatmap.unusual", values);
  if (heatmap.empty) return t("heatmap.none", values);
  return t("heatmap.influence", values) + (heatmap.is_faithful === false ? t("heatmap.unfaithful") : "");
}

/**
 * Return what the colors of a heatmap mean.
 * @param {PageHeatmap} heatmap
 */
export const heatmapNote = (heatmap) => t(showsDifferences(heatmap) ? "heatmap.unusualNote" : "heatmap.note");

/**
 * Return the result of the model check: whether the model file was verified against the trained network.
 * @param {ModelDescription | null} model
 */
export function modelCheck(model) {
  const certificate = model?.certificate;
  if (!certificate) return t("check.none");
  return certificate.passed ? t("check.passed", { n: certificate.images }) : t("check.failed");
}

/** @param {string} stage of the server */
export const stageText = (stage) => tValue("stage", stage);

/** @param {Photo} photo */
export function statusText(photo) {
  if (photo.status === "waiting") return photo.retryIn ? t("status.retryIn", { s: photo.retryIn }) : t("status.waiting");
  if (photo.status === "sending") return t("status.sending", { share: wholePercent(photo.sent) });
  if (photo.status === "working") {
    const ahead = photo.stage === "queued" && photo.queuePosition ? `, ${t("status.ahead", { n: photo.queuePosition })}` : "";
    return (photo.stage ? stageText(photo.stage) : t("status.sent")) + ahead;
  }
  if (photo.status === "cancelled") return t("status.canceled");
  if (photo.status === "failed") return photo.problem?.title ?? "";
  return photo.result ? summarize(photo.result) : "";
}

/** @param {Limits | null} limits */
export function limitsText(limits) {
  if (!limits) return "";
  const bytes = limits.max_upload_bytes;
  const size = bytes < 2 ** 20 ? `${Math.floor(bytes / 2 ** 10)} kB` : `${Math.floor(bytes / 2 ** 20)} MB`;
  const stored = limits.retention_hours === null ? t("limits.notStored") : t("limits.stored", { n: limits.retention_hours });
  return `${t("limits.size", { formats: limits.formats.join(", "), size, pixels: Number((limits.max_pixels / 1e6).toPrecision(2)) })} ${stored}`;
}
