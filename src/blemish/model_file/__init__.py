"""The model file: an ONNX graph that contains its own contract.

The contract is JSON in the graph's metadata, so that any ONNX runtime loads the file, and Blemish needs no
other file. Reading and writing it needs neither ONNX nor torch: a protobuf message is a list of fields, and
metadata are top-level fields at any position in the file.
"""

from blemish.model_file.abstention_scores import AbstentionScores, BoxScoreBin, LabelScores
from blemish.model_file.capture_spec import CaptureLimit, CaptureSpec
from blemish.model_file.contract import (
    CROSS_VALIDATED,
    FORMAT_VERSION,
    Contract,
    ContractModel,
    DecoderSpec,
    ExplanationChoice,
    InputSpec,
    Interpolation,
    LabelSpec,
    Licenses,
    OutputSpec,
    ParityCertificate,
    ThresholdEvidence,
    with_white_level,
)
from blemish.model_file.familiarity_spec import FamiliaritySpec
from blemish.model_file.file_lock import lock_file
from blemish.model_file.fingerprints import Fingerprints
from blemish.model_file.read_write import (
    CONTRACT_KEY,
    FINGERPRINTS_KEY,
    ModelFile,
    explanation_path,
    graph_digest,
    read_graph,
    read_model_file,
    write_atomically,
    write_model_file,
    write_parts_atomically,
)

__all__ = [
    "CONTRACT_KEY",
    "CROSS_VALIDATED",
    "FINGERPRINTS_KEY",
    "FORMAT_VERSION",
    "AbstentionScores",
    "BoxScoreBin",
    "CaptureLimit",
    "CaptureSpec",
    "Contract",
    "ContractModel",
    "DecoderSpec",
    "ExplanationChoice",
    "FamiliaritySpec",
    "Fingerprints",
    "InputSpec",
    "Interpolation",
    "LabelScores",
    "LabelSpec",
    "Licenses",
    "ModelFile",
    "OutputSpec",
    "ParityCertificate",
    "ThresholdEvidence",
    "explanation_path",
    "graph_digest",
    "lock_file",
    "read_graph",
    "read_model_file",
    "with_white_level",
    "write_atomically",
    "write_model_file",
    "write_parts_atomically",
]
