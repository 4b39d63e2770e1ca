"""The languages that schemas are written in: reading, normal forms, compatibility. It needs no other room."""
