// The sheet of a solar module: each cell with its worst finding.

/** Return whether the open inspection has findings with cells. */
export const hasModuleSheet = () => false;

export const moduleSheet = () => null;
