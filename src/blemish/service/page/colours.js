// Label colours that people with colour-blindness can tell apart (Okabe and Ito), and a perceptually uniform map.

const LABELS = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#999999"];

export const labelColour = (index) => LABELS[((index % LABELS.length) + LABELS.length) % LABELS.length];

export function colourOf(result, label) {
  return labelColour(result.labels.findIndex((l) => l.label === label));
}

// Anchors of matplotlib's inferno at even steps; between them linear, which is not visible at 256 steps.
export const INFERNO = [
  [0, 0, 4], [22, 11, 57], [66, 10, 104], [106, 23, 110], [147, 38, 103], [188, 55, 84], [221, 81, 58], [243, 120, 25],
  [252, 165, 10], [246, 215, 70], [252, 255, 164],
];
