"""Masks of vessels, from a CTA (`cta`) and from a DSA run (`dsa`). Import the one that is needed: each loads heavy packages."""
