"""The tasks: one module each, with everything that differs between them.

A task's module defines a `Task` with its `TaskFields`: what the ground truth must contain, the losses, the
metrics and which of them is primary, and its behaviors ("hooks"). Every other package asks the task.

Behaviors are functions of these signatures:

| hook | signature | does |
|---|---|---|
| `convert` | `(ground_truth, where) -> GroundTruth` | read the ground truth of another task as this one's |
| `synthesize` | `(label_index, boxes_xyxy, masks, labels, size_hw) -> GroundTruth` | encode drawn damage |
| `synthetic_labels` | `(damage, clean) -> Labels` | return the labels of a synthetic data set |
| `describe` | `(prediction) -> str` | describe the decision of the model in one line |
| `check_sample` | `(sample, where) -> None` | refuse a training image without the ground truth needed |
| `target_encoder` | `(network) -> (sample, boxes, placement) -> array` | encode the training target |
| `validate` | `(contract, outputs) -> dict[str, float]` | measure a validation epoch |
| `report` | `(eval_input) -> Report` | measure predictions for a report |
| `abstention` | `(predictions, ground_truths, groups, seed) -> dict` | collect scores that decide at a risk |
| `convert_labels` | `(labels) -> Labels` | optional: return the labels of a converted data set |
| `train_command` | `(TrainOptions) -> None` | optional: train without PyTorch, for `blemish train` |
| `decision_differences` | `(before, after) -> (int, float)` | count decisions that an export changed |
| `decision_error` | `(before, after) -> float` | optional: measure how far an export moved a prediction |

"""
