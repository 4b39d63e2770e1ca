collect_ignore = ["project", "misuse.py"]
