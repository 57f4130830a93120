"""From the broker to the log: receive, check, commit, acknowledge, receipt."""
