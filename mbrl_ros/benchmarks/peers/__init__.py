"""Drivers that time our planners and their peers, each in a process and environment of its own.

The files here are scripts: `timing.Worker` starts them by path, so that a peer's environment needs nothing of ours.
"""
