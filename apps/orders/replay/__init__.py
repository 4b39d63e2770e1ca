"""Turns a retailer's recorded invoices into API calls, and checks the system's books against the file."""
