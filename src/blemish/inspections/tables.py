"""The tables of the inspection store.

Identifiers are ULIDs: 26 characters that sort by time. Times are UTC in ISO 8601. What a model found is never
changed: triggers of the database refuse it, as they refuse to change or delete runs, reviews and events.
"""

from __future__ import annotations

import sqlalchemy as sa

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = sa.MetaData(naming_convention=NAMING)

ASSET_KINDS = ("vehicle", "pv_module", "structure", "part", "free")
PHASES = ("before", "after", "periodic")
STATUSES = ("open", "closed")
ORIGINS = ("model", "person")
STATES = ("open", "accepted", "rejected", "contested")
CHANGES = ("new", "pre-existing", "worsened", "repaired", "unknown")
ACTIONS = ("accept", "reject", "edit", "add", "contest", "note")


def _id() -> sa.Column[str]:
    return sa.Column("id", sa.String(26), primary_key=True)


def _reference(name: str, target: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(26), sa.ForeignKey(target), nullable=nullable)


def _text(name: str, length: int, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), nullable=nullable)


def _one_of(column: str, values: tuple[str, ...]) -> sa.CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return sa.CheckConstraint(f"{column} IN ({listed})", name=column)


asset = sa.Table(
    "asset",
    metadata,
    _id(),
    _text("owner", 64),
    _text("kind", 16),
    _text("reference", 200),
    sa.Column("attributes", sa.JSON, nullable=False),
    _text("created_at", 32),
    sa.Column("version", sa.Integer, nullable=False),
    _one_of("kind", ASSET_KINDS),
    sa.UniqueConstraint("owner", "kind", "reference"),
)

inspection = sa.Table(
    "inspection",
    metadata,
    _id(),
    _text("owner", 64),
    _reference("asset_id", "asset.id"),
    _reference("previous_id", "inspection.id", nullable=True),
    _text("kind", 64),
    _text("phase", 16),
    _text("status", 16),
    sa.Column("required_views", sa.JSON, nullable=False),
    sa.Column("policy", sa.JSON, nullable=False),
    sa.Column("comparison", sa.JSON, nullable=True),
    sa.Column("open_findings", sa.Integer, nullable=False),
    sa.Column("needs_review", sa.Integer, nullable=False),
    _text("created_at", 32),
    _text("updated_at", 32),
    sa.Column("version", sa.Integer, nullable=False),
    _one_of("phase", PHASES),
    _one_of("status", STATUSES),
    sa.Index("ix_inspection_needs_review_id", "needs_review", "id"),
    sa.Index("ix_inspection_owner_needs_review_id", "owner", "needs_review", "id"),
    sa.Index("ix_inspection_asset_id", "asset_id", "id"),
)

image = sa.Table(
    "image",
    metadata,
    _id(),
    _reference("inspection_id", "inspection.id"),
    _text("sha256", 64),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("height", sa.Integer, nullable=False),
    sa.Column("width", sa.Integer, nullable=False),
    _text("format", 16),
    sa.Column("orientation", sa.Integer, nullable=False),
    _text("perceptual_hash", 64),
    _text("file_name", 255),
    _text("view", 64),
    sa.Column("quality", sa.JSON, nullable=False),
    _text("created_at", 32),
    sa.UniqueConstraint("inspection_id", "sha256"),
    sa.Index("ix_image_sha256", "sha256"),
)

prediction_run = sa.Table(
    "prediction_run",
    metadata,
    _id(),
    _reference("inspection_id", "inspection.id"),
    _text("model_digest", 64),
    _text("model_name", 200),
    _text("task", 32),
    sa.Column("labels", sa.JSON, nullable=False),
    sa.Column("parameters", sa.JSON, nullable=False),
    sa.Column("images", sa.JSON, nullable=False),
    _text("tool_version", 32),
    _text("created_at", 32),
    sa.Index("ix_prediction_run_inspection_id", "inspection_id", "id"),
)

finding = sa.Table(
    "finding",
    metadata,
    _id(),
    _reference("inspection_id", "inspection.id"),
    _reference("image_id", "image.id"),
    _reference("run_id", "prediction_run.id", nullable=True),
    _text("origin", 16),
    _text("label", 200),
    sa.Column("score", sa.Float(53), nullable=True),
    sa.Column("box_xyxy", sa.JSON, nullable=True),
    sa.Column("polygons", sa.JSON, nullable=True),
    sa.Column("area_share", sa.Float(53), nullable=True),
    _text("part", 200),
    _text("severity_scale", 64),
    _text("severity_level", 32),
    _text("severity_rule", 200),
    sa.Column("measures", sa.JSON, nullable=False),
    _text("created_at", 32),
    # What reviews, merging and comparison derive:
    _text("state", 16),
    _text("current_label", 200),
    sa.Column("current", sa.JSON, nullable=True),
    _text("group_id", 26, nullable=True),
    _text("group_basis", 32),
    _text("change", 16),
    sa.Column("version", sa.Integer, nullable=False),
    _one_of("origin", ORIGINS),
    _one_of("state", STATES),
    _one_of("change", CHANGES),
    sa.Index("ix_finding_inspection_id", "inspection_id", "id"),
    sa.Index("ix_finding_image_id", "image_id"),
    sa.Index("ix_finding_state_id", "state", "id"),
    sa.Index("ix_finding_current_label_id", "current_label", "id"),
    sa.Index("ix_finding_current_label_severity_level_id", "current_label", "severity_level", "id"),
    sa.Index("ix_finding_severity_level_id", "severity_level", "id"),
)

review = sa.Table(
    "review",
    metadata,
    _id(),
    _reference("inspection_id", "inspection.id"),
    _reference("finding_id", "finding.id", nullable=True),
    _text("action", 16),
    _text("reviewer", 100),
    _text("reason", 200),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("before", sa.JSON, nullable=True),
    sa.Column("after", sa.JSON, nullable=True),
    _text("created_at", 32),
    _one_of("action", ACTIONS),
    sa.Index("ix_review_inspection_id", "inspection_id", "id"),
    sa.Index("ix_review_finding_id", "finding_id", "id"),
)

report = sa.Table(
    "report",
    metadata,
    _id(),
    _reference("inspection_id", "inspection.id"),
    _text("format", 16),
    _text("sha256", 64),
    sa.Column("options", sa.JSON, nullable=False),
    sa.Column("audit_sequence", sa.BigInteger, nullable=False),
    _text("audit_hash", 64),
    _text("created_at", 32),
    sa.Index("ix_report_inspection_id", "inspection_id", "id"),
    sa.Index("ix_report_sha256", "sha256"),
)

audit_event = sa.Table(
    "audit_event",
    metadata,
    sa.Column(
        "sequence", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False
    ),
    _text("operation", 26),
    _text("at", 32),
    _text("actor", 100),
    _text("action", 64),
    _text("object_kind", 32),
    _text("object_id", 64),
    sa.Column("details", sa.Text, nullable=False),
    _text("previous_hash", 64),
    _text("hash", 64),
    sa.Index("ix_audit_event_operation", "operation"),
    sa.Index("ix_audit_event_object_id", "object_id", "sequence"),
)

idempotency_key = sa.Table(
    "idempotency_key",
    metadata,
    sa.Column("owner", sa.String(64), primary_key=True),
    sa.Column("key", sa.String(255), primary_key=True),
    _text("request_digest", 64),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("response", sa.JSON, nullable=False),
    _text("created_at", 32),
)
