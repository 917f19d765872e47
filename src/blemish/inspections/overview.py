"""Inspections with what a list of them shows: the asset, the number of images, and one image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from blemish.inspections import tables
from blemish.inspections.records import Inspection
from blemish.inspections.store import InspectionStore


def list_overviews(store: InspectionStore, inspections: Sequence[Inspection]) -> list[dict[str, Any]]:
    """Return inspections as plain values, with further keys.

    Returns:
        For each, without the rules and the comparison: `asset` with `kind` and `reference`; `images`, their
        number; `cover_image_id`, the first image, or None; `decided_findings`, the number of findings that
        were accepted or rejected.
    """
    ids = [inspection.id for inspection in inspections]
    image, finding, asset = tables.image.c, tables.finding.c, tables.asset.c
    by_image = (
        sa.select(image.inspection_id, sa.func.count(), sa.func.min(image.id))
        .where(image.inspection_id.in_(ids))
        .group_by(image.inspection_id)
    )
    decided = (
        sa.select(finding.inspection_id, sa.func.count())
        .where(finding.inspection_id.in_(ids), finding.state.in_(("accepted", "rejected")))
        .group_by(finding.inspection_id)
    )
    of_assets = sa.select(asset.id, asset.kind, asset.reference).where(
        asset.id.in_({inspection.asset_id for inspection in inspections})
    )
    with store.access.database.read() as connection:
        images = {row[0]: (row[1], row[2]) for row in connection.execute(by_image)}
        decisions = {row[0]: row[1] for row in connection.execute(decided)}
        assets = {row[0]: {"kind": row[1], "reference": row[2]} for row in connection.execute(of_assets)}
    overviews = []
    for inspection in inspections:
        fields = inspection.to_dict()
        del fields["policy"], fields["comparison"]
        count, cover = images.get(inspection.id, (0, None))
        overviews.append(
            {
                **fields,
                "asset": assets[inspection.asset_id],
                "images": count,
                "cover_image_id": cover,
                "decided_findings": decisions.get(inspection.id, 0),
            }
        )
    return overviews
