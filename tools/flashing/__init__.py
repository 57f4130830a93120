"""What `tools/flash` is made of: from a blank ESP32 to a first verified reading. tools/README.md tells the whole."""
