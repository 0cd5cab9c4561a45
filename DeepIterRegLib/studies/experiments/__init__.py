"""How good registrations are: measures, the papers' experiments, and the runner that spreads them over workers."""
