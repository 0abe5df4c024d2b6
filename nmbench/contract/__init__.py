"""The contract between the suite and a task. Its public faces are `nmbench.task` and `nmbench.run`."""
