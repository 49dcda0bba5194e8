"""A detector as files that programs run without this package."""
