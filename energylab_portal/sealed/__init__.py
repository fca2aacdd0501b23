"""Sealed runs of closed models: measured outside the container, signed, and verifiable by anyone."""
