"""The loop over tiles, and what it needs: options, checks, records, reports."""
