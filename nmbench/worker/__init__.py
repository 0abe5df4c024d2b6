"""Inside the worker process of one cell: `python -m nmbench.worker`, the only place that imports tasks."""
