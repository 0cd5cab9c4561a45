"""What leaves: the report, exports to other systems, the roadmap."""
