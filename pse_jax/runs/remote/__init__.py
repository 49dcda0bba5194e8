"""Runs whose folder is at an address, gs://bucket/run: worked on in a local copy (docs/runs.md)."""
