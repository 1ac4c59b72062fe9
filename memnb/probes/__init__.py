"""Measures on a model's memory: how far it degrades, what removing rows costs, where it looks."""
