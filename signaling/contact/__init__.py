"""Contacts: events in, commands out, and the recording gates as folds over the event log."""
