"""Who may speak: enrolled keys, one-time claims, coarse places, and the dating of clockless messages."""
