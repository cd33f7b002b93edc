"""A robot learns its own dynamics while it moves and controls itself by planning through them."""
