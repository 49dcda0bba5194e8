"""Published weights in and our weights out, by exact name."""
