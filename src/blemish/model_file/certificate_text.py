"""The parity certificate of a model file in words."""

from __future__ import annotations

from blemish.model_file.contract import ParityCertificate


def describe_certificate(certificate: ParityCertificate | None, graph_digest: str) -> str:
    """Return one sentence about a certificate.

    Args:
        certificate: of a model file, or None.
        graph_digest: of that file.
    """
    if certificate is None:
        return "none: this file was not compared with the network it came from"
    if certificate.graph_digest != graph_digest:
        return "INVALID: this file was changed after it was certified"
    text = (
        f"{certificate.decisions_changed} decisions changed on {certificate.images} images, largest "
        f"difference {certificate.max_difference:.2g}"
    )
    if certificate.metric_before is not None and certificate.metric_after is not None:
        text += f", {certificate.metric} {certificate.metric_before:.4f} -> {certificate.metric_after:.4f}"
    conditions = (certificate.backend, certificate.precision, certificate.cpu_capability)
    text += f" ({', '.join(filter(None, conditions))})"
    return f"passed: {text}" if certificate.passed else f"FAILED: {'; '.join(certificate.reasons)}; {text}"
