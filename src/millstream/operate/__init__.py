"""What a person does: the command line, and what it starts and looks at."""
