"""From a log of interactions to a data set: read, filter, merge, split."""

from recssl.ingest.job import IngestSummary, ingest

__all__ = ["IngestSummary", "ingest"]
