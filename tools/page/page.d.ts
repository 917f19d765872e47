// The types of the page's state. Those of the REST answers are in rest.d.ts, which make_types.py writes.

type Detection = DetectionSchema;
type Tab = "prediction" | "heatmap" | "detections";

/** A problem of the server, or one that the page itself noticed. */
type PageProblem = Pick<ProblemDocument, "code" | "title" | "detail"> & Partial<ProblemDocument>;

/** A heatmap with the object URL of its grayscale image. */
type PageHeatmap = HeatmapSchema & { url: string };

interface UploadRequest {
  promise: Promise<PredictionResponse | null>;
  abort: () => void;
}

interface Photo {
  id: string;
  name: string;
  file: File;
  fileUrl: string; // the file as the browser shows it
  serverUrl: string | null; // the upright copy that the server returned
  status: "waiting" | "sending" | "working" | "done" | "failed" | "cancelled";
  sent: number; // share of the upload, 0 to 1
  stage: string | null;
  queuePosition: number | null;
  result: PredictionResponse | null;
  resultTime: Date | null;
  problem: PageProblem | null;
  abort: (() => void) | null;
  tries: number;
  retryIn: number | null; // seconds
  retryTimer: ReturnType<typeof setTimeout> | undefined;
  heatmap: PageHeatmap | null;
  heatmapLabel: string | null; // the label that a person chose
  heatmapStage: string | null;
  heatmapProblem: string | null;
  heatmapRequest: UploadRequest | null; // the newest; answers of older ones are ignored
}

type ReadyPhoto = Photo & { result: PredictionResponse };

/** Data URLs; null if there is no image. */
interface ReportImages {
  photo: string | null;
  heatmap: string | null;
}

interface PageState {
  models: ModelDescription[];
  model: string | null; // the name of the selected model
  limits: Limits | null;
  photos: Photo[];
  selected: string | null; // the id of a photo
  finding: number | null; // the id of a finding in it
  tab: Tab;
  tabChosen: boolean; // whether a person chose the tab: then a result does not change it
  allLabels: boolean; // whether a long list of labels is shown completely
  threshold: number | null; // null: the model's own, label by label
  heatmap: { opacity: number; minimum: number; sideBySide: boolean };
  notice: { text: string; buttonText: string | null; onButton: (() => void) | null; info: boolean } | null;
}
