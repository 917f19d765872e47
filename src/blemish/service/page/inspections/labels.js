// The labels that a finding can have: those of the served models, and those that the inspection has already.

import { state } from "../state.js";
import { effective, store } from "./state.js";

/** @returns {string[]} */
export function labelNames() {
  const ofModels = state.models.flatMap((model) => model.labels.map((l) => l.label));
  const ofFindings = (store.current?.findings ?? []).map((f) => effective(f).label);
  return [...new Set([...ofModels, ...ofFindings])];
}

/** @returns {string[]} */
export const partNames = () => [...new Set((store.current?.findings ?? []).map((f) => effective(f).part).filter(Boolean))].sort();

/**
 * Return the display name of a label.
 * @param {string} name
 */
export function labelText(name) {
  for (const model of state.models) {
    const label = model.labels.find((l) => l.label === name);
    if (label) return label.display_name;
  }
  return name;
}

/** Return the levels of severity of the open inspection; [] without rules. @returns {string[]} */
export const severityLevels = () => store.current?.inspection.policy.severity?.levels ?? [];
