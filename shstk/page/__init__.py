"""A report on runs as one HTML page: verdicts, findings, and who was on which stack."""
