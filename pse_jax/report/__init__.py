"""Tables, plots, pages and pictures."""
