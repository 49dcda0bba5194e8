"""The commands, one thin file a verb."""
