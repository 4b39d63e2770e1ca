"""Virtual time, and threads that run one at a time: everything that makes a world the same for the same seed."""
