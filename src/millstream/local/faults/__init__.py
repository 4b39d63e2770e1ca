"""Failures on demand: rules that delay, drop, refuse, lose or kill, for requests that fit them.

`fault` is what a test asks for; `rules` keeps what is asked for and counts; `session` does it to the requests of one
client. Nothing here costs a broker anything that has no rule.
"""
