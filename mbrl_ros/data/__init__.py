"""Recorded transitions: pairing and durable storage."""
