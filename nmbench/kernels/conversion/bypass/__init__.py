"""Modules that go past their layers: attention, modules judged whole, modules read by name."""
