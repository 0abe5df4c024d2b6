"""A finalised model -> the same with sparse layers where they are the faster ones."""
