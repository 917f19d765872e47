"""Certify a model file with every installed backend, in each precision that it can compute the file in."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace

from blemish.errors import BlemishError
from blemish.export.parity_certificate import Reference, compare
from blemish.inference.backend import DeviceKind
from blemish.inference.backend_choice import Candidate, installed_candidates, open_backend
from blemish.model_file import Contract, ModelFile, ParityCertificate
from blemish.structures import Sample

LOG = logging.getLogger(__name__)
BACKENDS_VARIABLE = "BLEMISH_CERTIFY_BACKENDS"  # names, separated by commas; unset: every installed backend
MAX_DROP = 0.005  # of the primary metric, in a precision below float32


def with_certificates(
    contract: Contract,
    certificate: ParityCertificate,
    reference: Reference,
    candidate: ModelFile,
    samples: Sequence[Sample],
    *,
    max_drop: float | None = None,
    max_changed: float | None = None,
) -> Contract:
    """Return a contract with a file's certificate, and those of the other installed backends.

    In bfloat16 no decision may change, and the primary metric may drop by at most `MAX_DROP`. A certificate
    that did not pass is kept: it states that the backend decides differently.

    Args:
        contract: of the file.
        certificate: of the file with its first backend; without it the others are not compared.
        reference: what every backend is compared with.
        candidate: the written file.
        samples: see `compare`.
        max_drop: see `compare`, for backends that compute in the precision of the file.
        max_changed: see `compare`, for the same.
    """
    contract = contract.model_copy(update={"certificate": certificate, "other_certificates": ()})
    if not certificate.passed:
        return contract
    own = Candidate(certificate.backend.partition(" ")[0], certificate.precision)
    certified = replace(candidate, contract=contract)  # its certificate states the precision of the weights
    named = os.environ.get(BACKENDS_VARIABLE)
    others = []
    for other in installed_candidates(certified):
        if other == own or (named is not None and other.name not in named.split(",")):
            continue
        drop, changed = (MAX_DROP, 0.0) if other.precision == "bf16" else (max_drop, max_changed)
        try:
            backend = open_backend(certified, backend=str(other), device="cpu")
            if backend.device_kind is not DeviceKind.CPU:
                continue
            compared = compare(
                reference,
                backend,
                certified,
                samples,
                precision=other.precision,
                max_drop=drop,
                max_changed=changed,
            )
        except BlemishError as error:
            LOG.warning("not certified for %s: %s", other, error)
            continue
        others.append(compared.certificate)
    return contract.model_copy(update={"other_certificates": tuple(others)})
