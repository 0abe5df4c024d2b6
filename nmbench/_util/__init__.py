"""What every floor may use: errors, files, child processes, paths, random streams, the machine."""
