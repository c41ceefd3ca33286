"""Everything that is remembered: canonical records, cells, KPI values, outbox, runs."""
