"""The page, the API and the public log endpoints."""
