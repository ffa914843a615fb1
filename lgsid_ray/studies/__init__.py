"""Many runs over one run directory, and one table."""
