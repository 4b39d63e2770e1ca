"""The tools of operators: the command line, and what it starts and looks at."""
