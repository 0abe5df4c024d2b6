"""What a report consists of, one subject a file."""
