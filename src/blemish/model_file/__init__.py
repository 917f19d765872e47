"""The model file: an ONNX graph that carries its own contract.

The contract stands in the graph's metadata as JSON, so any ONNX runtime loads the file and Blemish needs
nothing beside it. Reading and writing it takes neither ONNX nor torch: a protobuf message is a list of
fields, and metadata are top-level fields that may stand anywhere in the file.
"""

from blemish.model_file.contract import (
    FORMAT_VERSION,
    Contract,
    ContractModel,
    DecoderSpec,
    InputSpec,
    LabelSpec,
    Licences,
    OutputSpec,
    ParityCertificate,
)
from blemish.model_file.fingerprints import Fingerprints
from blemish.model_file.read_write import (
    CONTRACT_KEY,
    FINGERPRINTS_KEY,
    ModelFile,
    graph_digest,
    read_graph,
    read_model_file,
    write_atomically,
    write_model_file,
)

__all__ = [
    "CONTRACT_KEY",
    "FINGERPRINTS_KEY",
    "FORMAT_VERSION",
    "Contract",
    "ContractModel",
    "DecoderSpec",
    "Fingerprints",
    "InputSpec",
    "LabelSpec",
    "Licences",
    "ModelFile",
    "OutputSpec",
    "ParityCertificate",
    "graph_digest",
    "read_graph",
    "read_model_file",
    "write_atomically",
    "write_model_file",
]
