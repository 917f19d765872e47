"""The model file: an ONNX graph that carries its own contract.

The contract stands in the graph's metadata as JSON, so any ONNX runtime loads the file and Blemish needs
nothing beside it. Reading and writing it takes neither ONNX nor torch: a protobuf message is a list of
fields, and metadata are top-level fields that may stand anywhere in the file.
"""

from blemish.modelfile.contract import (
    FORMAT_VERSION,
    Clause,
    Contract,
    DecoderSpec,
    InputSpec,
    LabelSpec,
    Licences,
    OutputSpec,
    Parity,
)
from blemish.modelfile.files import (
    CONTRACT_KEY,
    FINGERPRINTS_KEY,
    ModelFile,
    graph_digest,
    read_graph,
    read_model_file,
    write_atomically,
    write_model_file,
)
from blemish.modelfile.fingerprints import Fingerprints

__all__ = [
    "CONTRACT_KEY",
    "FINGERPRINTS_KEY",
    "FORMAT_VERSION",
    "Clause",
    "Contract",
    "DecoderSpec",
    "Fingerprints",
    "InputSpec",
    "LabelSpec",
    "Licences",
    "ModelFile",
    "OutputSpec",
    "Parity",
    "graph_digest",
    "read_graph",
    "read_model_file",
    "write_atomically",
    "write_model_file",
]
