"""The record of an attempt: its schema, its files, the frame of many."""
