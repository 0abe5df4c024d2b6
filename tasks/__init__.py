"""nmbench_tasks: the built-in task families, reached through the same entry points as a stranger's plugin."""
