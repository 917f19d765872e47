// Addresses of the views: #/inspections, #/inspections/ID, #/inspections/ID/compare, #/assets/ID, #/check.

/** @typedef {{ view: "list" | "inspection" | "compare" | "asset" | "check", id: string | null }} Route */

/**
 * Return the view of an address.
 * @param {string} hash
 * @returns {Route}
 */
export function readRoute(hash) {
  const [, name, id, sub] = hash.replace(/^#/, "").split("/");
  if (hash === "#samples" || name === "check") return { view: "check", id: null };
  if (name === "assets" && id) return { view: "asset", id };
  if (name === "inspections" && id) return { view: sub === "compare" ? "compare" : "inspection", id };
  return { view: "list", id: null };
}

/** @param {string} id */
export const inspectionAddress = (id) => `#/inspections/${id}`;
/** @param {string} id */
export const compareAddress = (id) => `#/inspections/${id}/compare`;
/** @param {string} id */
export const assetAddress = (id) => `#/assets/${id}`;
export const LIST_ADDRESS = "#/inspections";
export const CHECK_ADDRESS = "#/check";
