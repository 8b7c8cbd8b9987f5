"""Clients that others wrote, against real servers. docs/clients.md says which, and which cannot be run here."""
