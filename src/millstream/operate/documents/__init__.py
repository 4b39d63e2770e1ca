"""Documents that are derived from the declaration: AsyncAPI, and a catalogue for people."""
