"""The page of a session: the newest run with its overlay and the list of all, which refreshes itself from files beside it."""
