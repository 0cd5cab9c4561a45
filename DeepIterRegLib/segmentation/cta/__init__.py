"""Vessels and veins of a CTA, from HU."""
