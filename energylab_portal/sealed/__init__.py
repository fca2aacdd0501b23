"""Sealed runs of closed models: measured from outside, signed, and checked by anyone."""
