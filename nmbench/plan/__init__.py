"""From a matrix file and the installed plugins to cells. Imports no torch and no task."""
