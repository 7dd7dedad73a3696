"""What an index holds, counted and measured."""

from __future__ import annotations

from odqa.store.folder import IndexIdentity
from odqa.store.metadata_store import SqliteMetadataStore
from odqa.store.recovery import VectorFollower
from odqa.types import IndexStatus


def status_of(identity: IndexIdentity, store: SqliteMetadataStore, follower: VectorFollower) -> IndexStatus:
    """Count what an index holds, and measure its files; the checksum of the snapshot is not compared."""
    documents, passages, tombstones = store.counts()
    snapshot = follower.good_snapshot(verify=False)
    files = [store.path.with_name(store.path.name + ending) for ending in ("", "-wal")]
    return IndexStatus(
        path=str(store.path.parent),
        documents=documents,
        passages=passages,
        tombstones=tombstones,
        generation=store.generation(),
        encoder=identity.encoder.name,
        encoder_revision=identity.encoder.revision,
        passage_tokens=identity.passage_tokens,
        schema_version=store.schema_version,
        metadata_bytes=sum(path.stat().st_size for path in files if path.exists()),
        snapshot_bytes=0 if snapshot is None else snapshot.path.stat().st_size,
        snapshot_generation=None if snapshot is None else snapshot.generation,
        snapshot_type=None if snapshot is None else "flat" if snapshot.binary is None else "binary",
        vector_index=store.vector_index(),
    )
