"""Judging readings: flags and scores, written to the log as verdict entries.

The parts stand in modules of their own and are imported from there: see README.md beside this file.
"""
