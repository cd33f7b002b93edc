"""What a run leaves behind, and the report made from it."""
