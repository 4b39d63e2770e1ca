"""Dead letters, for operators: list, show, redrive, edit and discard them, each action audited."""
