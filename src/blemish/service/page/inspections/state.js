// The state of the inspections: which view is open, and the inspection in it. Code that changes it calls `changed`.

import { changed } from "../state.js";

/** @type {InspectionsState} */
export const store = {
  isOn: false,
  settings: null,
  route: { view: "list", id: null },
  problem: null,
  list: { items: null, cursor: null, filter: { reference: "", kind: "", show: "open" }, sort: "review" },
  asset: null,
  current: null,
};

/** The open inspection; only for code that runs while one is open. */
export const current = () => /** @type {OpenInspection} */ (store.current);

/** @returns {InspectionImage | null} */
export const currentImage = () => store.current?.images.find((i) => i.id === store.current?.imageId) ?? null;
/** @returns {StoredFinding | null} */
export const currentFinding = () => store.current?.findings.find((f) => f.id === store.current?.findingId) ?? null;

/**
 * Return label, outline, part and severity of a finding after its reviews.
 * @param {StoredFinding} finding
 * @returns {FindingValues}
 */
export const effective = (finding) => ({
  label: finding.label,
  box_xyxy: finding.box_xyxy,
  polygons: finding.polygons,
  part: finding.part,
  severity_level: finding.severity_level,
  severity_rule: finding.severity_rule,
  ...(finding.current ?? {}),
});

/** @param {StoredFinding} finding */
export const isUndecided = (finding) => finding.state === "open" || finding.state === "contested";

/** @param {StoredFinding[]} findings @param {string} imageId */
export const ofImage = (findings, imageId) => findings.filter((f) => f.image_id === imageId);

/** @type {{ of: StoredFinding[] | null, byId: Map<string, number> }} */
const numbers = { of: null, byId: new Map() };

/**
 * Return the number of a finding within its inspection, as reports print it.
 * @param {StoredFinding} finding
 */
export function numberOf(finding) {
  const all = store.current?.findings ?? [];
  if (numbers.of !== all || numbers.byId.size !== all.length) {
    Object.assign(numbers, { of: all, byId: new Map(all.map((f, i) => [f.id, i + 1])) });
  }
  return numbers.byId.get(finding.id) ?? 0;
}

/**
 * Select a finding and its image.
 * @param {StoredFinding | null} finding
 */
export function selectFinding(finding) {
  const open = current();
  open.findingId = finding?.id ?? null;
  if (finding) open.imageId = finding.image_id;
  changed();
}

/** @param {string} imageId */
export function selectImage(imageId) {
  const open = current();
  if (open.imageId !== imageId) open.findingId = null;
  open.imageId = imageId;
  changed();
}
