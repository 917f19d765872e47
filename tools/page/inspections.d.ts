// The types of the inspections on the page: what the store answers, and the state of the views.

interface Asset {
  id: string;
  kind: string;
  reference: string;
  attributes: Record<string, any>;
  version: number;
  created_at: string;
}

interface InspectionRecord {
  id: string;
  asset_id: string;
  previous_id: string | null;
  kind: string;
  phase: string;
  status: "open" | "closed";
  required_views: string[];
  open_findings: number;
  needs_review: number;
  created_at: string;
  updated_at: string;
  version: number;
}

interface InspectionOverview extends InspectionRecord {
  asset: { kind: string; reference: string };
  images: number;
  cover_image_id: string | null;
  decided_findings: number;
}

interface ImagePair {
  image_id: string;
  previous_image_id: string;
  matrix: number[][] | null;
}

interface Change {
  change: string;
  basis: string;
  label: string;
  group_id: string | null;
  previous_group_id: string | null;
}

interface Comparison {
  previous_id: string;
  registration: string;
  changes: Change[];
  pairs: ImagePair[];
}

interface Summary {
  decision: string;
  damages: { finding_ids: string[]; basis: string }[];
  counts: Record<string, number>;
  severity_scale: string;
  worst_severity: string;
  open_findings: number;
  coverage: { required: string[]; present: string[]; missing: string[] };
  not_inspected: string[];
  image_problems: Record<string, string[]>;
}

interface InspectionDetail extends InspectionRecord {
  asset: Asset;
  policy: Record<string, any>;
  comparison: Comparison | null;
  summary: Summary;
}

type AssetSummary = Summary & { comparison: Comparison | null };

interface InspectionImage {
  id: string;
  inspection_id: string;
  height: number;
  width: number;
  format: string;
  file_name: string;
  view: string;
}

interface FindingValues {
  label: string;
  box_xyxy: number[] | null;
  polygons: number[][][] | null;
  part: string;
  severity_level: string;
  severity_rule: string;
}

interface StoredFinding extends FindingValues {
  id: string;
  inspection_id: string;
  image_id: string;
  origin: "model" | "person";
  score: number | null;
  area_share: number | null;
  measures: Record<string, any>;
  state: "open" | "accepted" | "rejected" | "contested" | string;
  current: Partial<FindingValues> | null;
  group_id: string | null;
  change: string;
  version: number;
}

interface StoredReview {
  id: string;
  finding_id: string | null;
  action: string;
  reviewer: string;
  reason: string;
  note: string;
  created_at: string;
}

interface StoredReport {
  id: string;
  format: string;
  created_at: string;
}

interface ModuleCell {
  name: string;
  row: number;
  column: number;
  labels: { label: string; score: number }[];
  inactive_share: number;
  quad: number[][];
  error: string | null;
}

interface ModuleSheet {
  image_id: string;
  grid: { rows: number; columns: number };
  cells: ModuleCell[];
  damaged_cells: number;
  inactive_area_share: number;
  worst_cell: string | null;
}

/** An edit in progress; it survives a reload. */
interface Edit {
  kind: "edit" | "add" | "note";
  imageId: string;
  findingId: string | null;
  label: string;
  part: string;
  severity: string; // "" leaves it to the rules
  note: string;
  shape: "box" | "polygon";
  box: number[] | null;
  rings: number[][][];
  outlineChanged: boolean;
  restored: boolean;
}

/** A decision that the store has not confirmed. */
interface PendingDecision {
  key: string;
  inspectionId: string;
  findingId: string | null;
  version: number | null;
  path: string;
  body: any;
  problem: PageProblem | null;
}

interface Upload {
  id: string;
  key: string;
  inspectionId: string;
  file: File;
  name: string;
  view: string;
  status: "waiting" | "sending" | "failed";
  sent: number; // share, 0 to 1
  problem: PageProblem | null;
  abort: (() => void) | null;
  tries: number;
}

interface BeforeSide {
  inspection: InspectionDetail | null;
  images: InspectionImage[];
  findings: StoredFinding[];
  choices: InspectionOverview[];
  imageId: string | null;
  isBusy: boolean;
}

interface OpenInspection {
  inspection: InspectionDetail;
  images: InspectionImage[];
  findings: StoredFinding[];
  reviews: StoredReview[];
  reports: StoredReport[];
  sheets: ModuleSheet[];
  imageId: string | null;
  findingId: string | null;
  onlyImage: boolean;
  sort: string;
  run: { done: number; total: number; model: string } | null;
  edit: Edit | null;
  before: BeforeSide | null;
}

interface InspectionSettings {
  reviewer: string | null;
  scopes: string[];
  asset_kinds: string[];
  phases: string[];
  severities: string[];
  label_formats: string[];
}

interface InspectionsState {
  isOn: boolean;
  settings: InspectionSettings | null;
  route: { view: "list" | "inspection" | "compare" | "asset" | "check"; id: string | null };
  problem: PageProblem | null;
  list: {
    items: InspectionOverview[] | null;
    cursor: string | null;
    filter: { reference: string; kind: string; show: "open" | "review" | "closed" | "all" };
    sort: string;
  };
  asset: { asset: Asset; inspections: InspectionOverview[]; summaries: Record<string, AssetSummary> } | null;
  current: OpenInspection | null;
}
