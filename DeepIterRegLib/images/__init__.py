"""Volumes and angiograms: in memory, from files and back."""
