// Label colors that differ with color blindness too: `blemish.drawing.PALETTE`, with which the server draws.

const LABELS = [
  "#e69f00", "#56b4e9", "#009e73", "#d55e00", "#cc79a7", "#f0e442", "#0072b2", "#bbffaa",
  "#963cff", "#780000", "#464646", "#332288",
];

/** @param {number} index of a label */
export const paletteColor = (index) => LABELS[Math.max(index, 0) % LABELS.length];

/**
 * @param {PredictionResponse} result
 * @param {string | null} label
 */
export function labelColor(result, label) {
  return paletteColor(result.labels.findIndex((l) => l.label === label));
}

// Control points of matplotlib's inferno, a perceptually uniform colormap, at even steps; linear between them.
export const INFERNO = [
  [0, 0, 4], [22, 11, 57], [66, 10, 104], [106, 23, 110], [147, 38, 103], [188, 55, 84], [221, 81, 58], [243, 120, 25],
  [252, 165, 10], [246, 215, 70], [252, 255, 164],
];
