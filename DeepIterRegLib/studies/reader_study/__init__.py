"""Blinded comparison of registrations by readers (A 3.9, 4.9): make it, answer it, analyse it."""
