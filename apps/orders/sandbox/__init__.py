"""The world outside, for a laptop: a payment gateway, a mailbox, one public address, and customers."""
