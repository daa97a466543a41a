"""What this plugin offers. Imports no torch."""
