"""Dead letters for people: read them, hand them in again, mend or discard them, and know who did."""
