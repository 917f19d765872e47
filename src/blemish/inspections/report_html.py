"""A report as one HTML file without references to others."""

from __future__ import annotations

import base64
import io
from html import escape
from typing import Any

from PIL import Image

from blemish.inspections.report_content import DECISIONS, LIMITS, ReportContent, draw_findings
from blemish.inspections.store import InspectionStore

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;color:#1b1f24;background:#fff;max-width:1100px;
margin:2rem auto;padding:0 1rem}table{border-collapse:collapse;width:100%;margin:1rem 0}
th,td{border-bottom:1px solid #d0d7de;
padding:.35rem .5rem;text-align:left;vertical-align:top}th{background:#f6f8fa}img{max-width:100%;height:auto}
h1{margin-bottom:0}figure{margin:1rem 0}code{overflow-wrap:anywhere}.rejected{color:#57606a}
.rejected td:nth-child(3){text-decoration:line-through}
@media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}th{background:#161b22}
th,td{border-color:#30363d}.rejected{color:#9198a1}}"""


def write_html(store: InspectionStore, content: ReportContent) -> bytes:
    """Return the HTML file, UTF-8."""
    title = content.options.get("title") or "Inspection report"
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width,initial-scale=1'>",
        f"<title>{escape(title)}: {escape(content.asset.reference)}</title><style>{_STYLE}</style><main>",
        f"<p>{escape(content.options.get('company', ''))}</p><h1>{escape(title)}</h1>",
        f"<p><strong>{DECISIONS[content.summary['decision']]}</strong></p>",
        _table([], [list(fact) for fact in content.facts()]),
        "<h2>Findings</h2>",
        _findings(content),
    ]
    if content.changes():
        rows = [[c["change"], c["label"], c["basis"]] for c in content.changes()]
        parts += ["<h2>Changes</h2>", _table(["Change", "Label", "Basis"], rows)]
    parts.append("<h2>Images</h2>")
    for image in content.images:
        name = " · ".join(filter(None, [image.file_name or image.id, image.view]))
        drawn = draw_findings(store, content, image)
        parts.append(
            f"<figure><img alt='{escape(name)} with outlines of the findings' src='{_data_url(drawn)}'>"
            f"<figcaption>{escape(name)}</figcaption></figure>"
        )
        if (heatmap := content.heatmaps.get(image.id)) is not None:
            parts.append(
                f"<figure><img alt='{escape(heatmap.caption)}' src='{_data_url(heatmap.drawn)}'>"
                f"<figcaption>{escape(heatmap.caption)}</figcaption></figure>"
            )
    reviews = [[r.created_at[:19].replace("T", " "), r.reviewer, r.action,
                _number(content, r.finding_id), r.reason, r.note]
               for r in content.reviews]  # fmt: skip
    models = [list(facts.values()) for facts in content.models()]
    parts += [
        "<h2>Reviews</h2>",
        _table(["Time (UTC)", "Reviewer", "Action", "Finding", "Reason", "Note"], reviews),
        "<h2>Models</h2>",
        _table(["Model", "Task", "SHA-256", "Images", "Certificate", "First run (UTC)"], models),
        "<h2>What images cannot show</h2><ul>",
        *(f"<li>{escape(line)}</li>" for line in (*LIMITS, *content.problems())),
        "</ul><h2>Proof</h2>",
        f"<p>Audit event {content.head.sequence}: <code>{content.head.hash}</code>.</p>",
        "<p><code>blemish inspections verify-report FILE</code> checks this file. ",
        f"Blemish {content.version}.</p></main>",
    ]
    return "".join(parts).encode()


def _findings(content: ReportContent) -> str:
    head = ["No.", "Image", "Label", "Part", "Severity", "Rule", "Change", "State", "Score"]
    cells = "".join(f"<th scope='col'>{name}</th>" for name in head)
    lines = []
    for row in content.rows():
        score = "" if row["score"] is None else f"{row['score']:.2f}"
        values = [row["number"], row["image"], row["label"], row["part"], row["severity_level"],
                  row["severity_rule"], row["change"], row["state"], score]  # fmt: skip
        kind = " class='rejected'" if row["state"] == "rejected" else ""
        lines.append(f"<tr{kind}>" + "".join(f"<td>{escape(str(value))}</td>" for value in values) + "</tr>")
    return (
        f"<table><thead><tr>{cells}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
        if lines
        else "<p>None.</p>"
    )


def _table(head: list[str], rows: list[list[Any]]) -> str:
    if not rows:
        return "<p>None.</p>"
    top = (
        f"<thead><tr>{''.join(f'<th scope=col>{escape(name)}</th>' for name in head)}</tr></thead>"
        if head
        else ""
    )
    first = "th scope='row'" if not head else "td"
    lines = []
    for row in rows:
        cells = [
            f"<{first}>{escape(str(row[0]))}</{first[:2]}>",
            *(f"<td>{escape(str(v))}</td>" for v in row[1:]),
        ]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table>{top}<tbody>{''.join(lines)}</tbody></table>"


def _number(content: ReportContent, finding_id: str | None) -> str:
    return "" if finding_id is None else str(content.numbers.get(finding_id, ""))


def _data_url(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
